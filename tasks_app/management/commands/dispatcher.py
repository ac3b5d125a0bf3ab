"""``manage.py dispatcher``: lets tasks into the broker. Start as many as you like; one is active."""

import signal
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection

from tasks_app import garbage
from tasks_app.dispatch.loop import Dispatcher
from tasks_app.metrics import exposition


class Command(BaseCommand):
    # Every second dispatcher start would pay for loading the admin and the API only to check them.
    requires_system_checks: list[str] = []
    help = "Admits eligible tasks and publishes their hints to the broker. One is active, others stand by."

    def handle(self, *args: Any, **options: Any) -> None:
        give_way_when_silent()
        dispatcher = Dispatcher(current_app)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: dispatcher.stop())
        exposition.serve(settings.A2A_DISPATCHER_METRICS_PORT, dispatcher=True)
        garbage.settle(seldom=True)
        dispatcher.run()


def give_way_when_silent() -> None:
    """Makes the database end this process's session when nothing was heard of it for as long as a lease.

    The active dispatcher holds a lock of its session. One that is stopped, or whose machine is gone, would hold it for
    as long as its connection seems open, and none that stands by could go on. It asks something every second.
    """
    silent_ms = int(settings.A2A_LEASE_S * 1000)
    options = connection.settings_dict["OPTIONS"]
    for name in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
        options["options"] = f"{options.get('options', '')} -c {name}={silent_ms}"
