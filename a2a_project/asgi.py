"""The ASGI application: what is hot or streams is a Starlette route; everything else is Django."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a2a_project.settings")

from a2a_project.siblings import shared_folder

SHARED = shared_folder()

from django.core.asgi import get_asgi_application

django_application: Any = get_asgi_application()

from django.conf import settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount, Route

from a2a_project.hsts import StrictTransport
from a2a_project.limits import BoundedBody
from tasks_app import garbage, metrics, tokens
from tasks_app.a2a import routes
from tasks_app.api import batch_stream, delivery, streams, uploads
from tasks_app.metrics import exposition
from tasks_app.metrics import web as metrics_web
from tasks_app.web import close_web, web

if "pool" not in settings.DATABASES["default"]["OPTIONS"]:
    logging.getLogger(__name__).warning("A2A_DB_POOL is not set: each Django request opens a connection of its own")
if settings.A2A_OPEN_MODE:
    logging.getLogger(__name__).warning(
        "OPEN MODE: whoever reaches this server from this machine needs no key. Never in production: A2A_OPEN_MODE"
    )
#: Read here, so that a setting that cannot be read ends the process, and not the first request with a token.
tokens.issuers(settings.A2A_JWT_ISSUERS)
if SHARED is not None:
    metrics.share_by_file(SHARED)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    exposition.serve(settings.A2A_WEB_METRICS_PORT)
    _end_streams_at_exit()
    garbage.settle(seldom=True)
    yield
    await close_web()


def _end_streams_at_exit() -> None:
    """A server that is told to stop waits for its open requests; streams and waiting sends then end at once."""
    loop, hub = asyncio.get_running_loop(), web().hub
    for number in (signal.SIGTERM, signal.SIGINT):
        told = signal.getsignal(number)

        def tell(number: int, frame: FrameType | None, told: Any = told) -> None:
            loop.call_soon_threadsafe(hub.end)
            if callable(told):
                told(number, frame)

        if threading.current_thread() is threading.main_thread():
            signal.signal(number, tell)


def _hosts(allowed: list[str]) -> list[str]:
    """Django's host patterns as Starlette writes them."""
    return [f"*{host}" if host.startswith(".") else host for host in allowed]


application = Starlette(
    routes=[
        *routes.ROUTES,
        Route("/healthz", routes.health),
        Route("/metrics", metrics_web.page),
        Route("/api/v1/tasks/{task_id}/events/", streams.events),
        Route("/api/v1/batches/{batch_id}/events/", batch_stream.events),
        Route("/api/v1/artifacts/{artifact_id}/content", delivery.content),
        Route("/api/v1/files/", uploads.upload, methods=["POST"]),
        Route("/api/v1/files/{upload_id}/content", uploads.content, methods=["GET"]),
        Mount("/", BoundedBody(django_application, settings.A2A_MAX_BODY_BYTES)),
    ],
    middleware=[
        Middleware(StrictTransport),
        # A page that a browser shows must not reach a server on its user's machine under another name (DNS rebinding).
        Middleware(TrustedHostMiddleware, allowed_hosts=_hosts(settings.ALLOWED_HOSTS), www_redirect=False),
    ],
    lifespan=lifespan,
)
