"""Keeps bodies that are too large away from Django, which would store them before it looks."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks_app.a2a import http


class _TooLarge(Exception):
    pass


class BoundedBody:
    """ASGI middleware: 413 for a body that is larger than the limit, or declares to be; it is read no further."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = self._limit_bytes

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        try:
            if self._declares_more(scope):
                raise _TooLarge
            # Starlette's mount moved the path into root_path; Django takes it from there only if it is told no root.
            await self._app({**scope, "root_path": ""}, bounded, send)
        except _TooLarge:
            # Django reads the whole body before it answers, so nothing was sent yet.
            detail = f"body: the limit is {self._limit_bytes} bytes"
            answer = http.refused(413, detail, {"field": "body", "message": detail})
            await answer(scope, receive, send)

    def _declares_more(self, scope: Scope) -> bool:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        return not declared.isdigit() or len(declared) > 18 or int(declared) > self._limit_bytes
