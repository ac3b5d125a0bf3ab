"""HTTP Strict Transport Security for the routes that are not Django's (A2A 1.0, section 13.4; RFC 6797)."""

from __future__ import annotations

from django.conf import settings
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StrictTransport:
    """ASGI middleware: what came over TLS is answered with the header, by Django's own settings for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not settings.SECURE_HSTS_SECONDS or not _is_secure(scope):
            await self._app(scope, receive, send)
            return

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Strict-Transport-Security", _policy())
            await send(message)

        await self._app(scope, receive, strict)


def _is_secure(scope: Scope) -> bool:
    """Whether the client came over TLS, which ends at a proxy that says so (RFC 6797, section 7.2)."""
    return scope["type"] == "http" and "https" in (scope["scheme"], Headers(scope=scope).get("x-forwarded-proto"))


def _policy() -> str:
    """As Django writes it."""
    said = [f"max-age={settings.SECURE_HSTS_SECONDS}"]
    said += ["includeSubDomains"] if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else []
    said += ["preload"] if settings.SECURE_HSTS_PRELOAD else []
    return "; ".join(said)
