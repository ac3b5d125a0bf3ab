"""Server-sent events: how every binding's streams leave (A2A 1.0, sections 3.5.2 and 11.7).

A response of our own, since a thousand streams are open in one process: the usual one keeps four tasks for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

from anyio import CancelScope
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

#: A client that takes nothing for so long is cut off; it resumes where it was.
STALLED_S = 60
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
#: What nobody reads, so that nothing in between takes the stream for dead.
COMMENT = b": still here\n\n"


def event(number: int | None, data: bytes, *, name: str | None = None) -> bytes:
    """One event: its id, which a client resumes after (a task's generation), if any; and its data, JSON in one line."""
    place = b"" if number is None else b"id: %d\n" % number
    kind = b"" if name is None else b"event: %b\n" % name.encode()
    return b"%b%bdata: %b\n\n" % (place, kind, data)


class Stream(Response):
    """Sends events as they come; None among them is a moment in which nothing came, and sends a comment.

    Ends with its events, when the client has gone (which is looked for at each comment), or takes nothing for a minute.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes | None], *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(headers={**HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._events) as events:  # type: ignore[type-var] # they are all generators
            async for data in events:
                if data is None and await _has_gone(receive):
                    return
                try:
                    async with asyncio.timeout(STALLED_S):
                        body = COMMENT if data is None else data
                        await send({"type": "http.response.body", "body": body, "more_body": True})
                except TimeoutError:
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _has_gone(receive: Receive) -> bool:
    """Whether the client has disconnected. Does not wait."""
    with CancelScope() as scope:
        scope.cancel()
        message = await receive()
        return bool(message["type"] == "http.disconnect")
    return False
