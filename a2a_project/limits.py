"""Keeps bodies that are too large away from Django, which would store them before it looks."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BoundedBody:
    """ASGI middleware: 413 for a body that declares more than the limit; one that lies about it is cut off."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit_bytes:
            detail = f"body: the limit is {self._limit_bytes} bytes"
            answer = JSONResponse({"detail": detail, "errors": [{"field": "body", "message": detail}]}, 413)
            await answer(scope, receive, send)
            return
        left = self._limit_bytes

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            return message if left >= 0 else {"type": "http.disconnect"}

        # Starlette's mount moved the path into root_path; Django takes it from there only if it is told no root.
        await self._app({**scope, "root_path": ""}, bounded, send)
