"""``manage.py grpc``: the gRPC binding, in a process of its own. Start as many as you like."""

import asyncio
import logging
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from tasks_app import garbage
from tasks_app.metrics import exposition
from tasks_app.web import close_web, web

log = logging.getLogger(__name__)

#: How long streams and calls under way may go on after a signal to stop, in seconds: as long as web's.
GRACE_S = 5.0


class Command(BaseCommand):
    # As the dispatcher: nothing of the admin or the REST door runs here.
    requires_system_checks: list[str] = []
    help = "Serves A2A over gRPC at A2A_GRPC_HOST and A2A_GRPC_PORT, without TLS: that is a proxy's."

    def handle(self, *args: Any, **options: Any) -> None:
        exposition.serve(settings.A2A_GRPC_METRICS_PORT)
        asyncio.run(serve(f"{settings.A2A_GRPC_HOST}:{settings.A2A_GRPC_PORT}"))


async def serve(address: str) -> None:
    """Serves until SIGTERM or SIGINT, and lets what is under way end."""
    from tasks_app.a2a.grpc import server

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = server()
    serving.add_insecure_port(address)
    await serving.start()
    garbage.settle(seldom=True)
    log.info("gRPC: serving at %s", address)
    await stop.wait()
    web().hub.end()  # streams end now, and their clients come back to another
    await serving.stop(GRACE_S)
    await close_web()
