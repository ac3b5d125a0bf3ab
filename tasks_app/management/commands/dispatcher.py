"""``manage.py dispatcher``: lets tasks into the broker. Start as many as you like; one is active."""

import signal
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.management.base import BaseCommand

from tasks_app.dispatch.loop import Dispatcher
from tasks_app.metrics import exposition


class Command(BaseCommand):
    # Every second dispatcher start would pay for loading the admin and the API only to check them.
    requires_system_checks: list[str] = []
    help = "Admits eligible tasks and publishes their hints to the broker. One is active, others stand by."

    def handle(self, *args: Any, **options: Any) -> None:
        dispatcher = Dispatcher(current_app)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: dispatcher.stop())
        exposition.serve(settings.A2A_DISPATCHER_METRICS_PORT, dispatcher=True)
        dispatcher.run()
