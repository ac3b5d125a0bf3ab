"""Server-sent events: how a stream is written, and how it ends when nobody reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tasks_app.a2a import sse

SCOPE = {"type": "http"}
GONE = {"type": "http.disconnect"}


class Client:
    """The other end of a response."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.says: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.takes = asyncio.Event()
        self.takes.set()

    async def receive(self) -> Any:
        return await self.says.get()

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        self.heard.put_nowait(message)

    def body(self) -> bytes:
        messages = [self.heard.get_nowait() for _ in range(self.heard.qsize())]
        return b"".join(message.get("body", b"") for message in messages)


class Events:
    """Yields what it is given, and says when it was closed."""

    def __init__(self, *events: bytes | None) -> None:
        self.events = events
        self.closed = asyncio.Event()

    async def __call__(self) -> AsyncIterator[bytes | None]:
        try:
            for event in self.events:
                yield event
        finally:
            self.closed.set()


def test_an_event_is_its_generation_its_name_and_one_line_of_data() -> None:
    assert sse.event(7, b'{"a":1}') == b'id: 7\ndata: {"a":1}\n\n'
    assert sse.event(7, b"{}", name="status") == b"id: 7\nevent: status\ndata: {}\n\n"


async def test_a_stream_says_something_while_nothing_comes_and_ends_with_its_events() -> None:
    client, events = Client(), Events(b"data: 1\n\n", None, b"data: 2\n\n")
    await sse.Stream(events())(SCOPE, client.receive, client.send)
    head = client.heard.get_nowait()
    headers = dict(head["headers"])
    assert (head["status"], headers[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
    assert (headers[b"cache-control"], b"content-length" in headers) == (b"no-store", False)
    assert client.body() == b"data: 1\n\n: still here\n\ndata: 2\n\n"


async def test_a_stream_ends_when_its_client_has_gone() -> None:
    client, events = Client(), Events(None, None, b"data: never\n\n")
    client.says.put_nowait(GONE)
    await sse.Stream(events())(SCOPE, client.receive, client.send)
    assert client.body() == b""
    assert events.closed.is_set()


async def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALLED_S", 0.01)
    client, events = Client(), Events(b"data: 1\n\n", b"data: 2\n\n")
    started = asyncio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            client.takes.clear()
            started.set()
            return
        await client.send(message)

    await sse.Stream(events())(SCOPE, client.receive, send)
    assert started.is_set()
    assert events.closed.is_set()
    assert client.body() == b""
