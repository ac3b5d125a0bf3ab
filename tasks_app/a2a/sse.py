"""Server-sent events: how every binding's streams leave (A2A 1.0, sections 3.5.2 and 11.7)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import orjson
from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from tasks_app.a2a import http
from tasks_app.a2a.errors import invalid

KEEP_ALIVE_S = 15
#: A client that takes nothing for so long is cut off; it resumes where it was.
STALLED_S = 60
GENERATION_MAX = 2**31 - 1


class Event(NamedTuple):
    """One event: its generation, which is the id that a client resumes after, and its data as JSON."""

    generation: int
    data: Any
    name: str | None = None


def response(events: AsyncIterator[Event], *, headers: Mapping[str, str] | None = None) -> Response:
    """Sends the events as they come, and a comment every 15 s so that nothing in between takes the stream for dead."""
    return EventSourceResponse(_sent(events), ping=KEEP_ALIVE_S, sep="\n", headers=headers, send_timeout=STALLED_S)


def last_event_id(request: Request) -> int | None:
    """The generation after which the client goes on; None if it begins. Raises InvalidParamsError."""
    text = request.headers.get("last-event-id")
    if text is None:
        return None
    last = http.whole_number(text)
    if last is None or last > GENERATION_MAX:
        raise invalid("Last-Event-ID", "must be a generation, a number from 0")
    return last


async def _sent(events: AsyncIterator[Event]) -> AsyncIterator[dict[str, str]]:
    async for event in events:
        sent = {"id": str(event.generation), "data": orjson.dumps(event.data).decode()}
        yield sent if event.name is None else {**sent, "event": event.name}
