"""A load generator: many clients, each with one connection, each sending its next request when the last is answered.

It shares the machine with what it measures, so it costs as little as it can: a protocol on uvloop, 40 µs a request.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import SplitResult, urlsplit

import uvloop


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run of the generator saw; times in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def load(
    url: str, body: Callable[[], bytes], *, clients: int, seconds: float, headers: Mapping[str, str] | None = None
) -> Measured:
    """POSTs bodies as JSON for so long. An answer with another status than 200, or with an error in it, has failed."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    parts = urlsplit(url)
    head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n{more}"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(parts, (head + "A2A-Version: 1.0\r\nContent-Length: ").encode(), body, clients, seconds))


async def _run(parts: SplitResult, head: bytes, body: Callable[[], bytes], clients: int, seconds: float) -> Measured:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [_Client(head, body, until=began + seconds) for _ in range(clients)]
    for client in made:
        await loop.create_connection(partial(_same, client), parts.hostname or "127.0.0.1", parts.port or 80)
    await asyncio.gather(*[client.ended for client in made])
    elapsed = time.perf_counter() - began
    took = sorted(itertools.chain.from_iterable(client.took for client in made))
    return Measured(
        rate=len(took) / elapsed,
        p50_ms=1000 * statistics.median(took),
        p99_ms=1000 * took[int(len(took) * 0.99)],
        failed=sum(client.failed for client in made),
    )


def _same(client: _Client) -> _Client:
    return client


class _Client(asyncio.Protocol):
    """One connection. ``ended`` is done when the answer to its last request is here, or raises that the line broke."""

    def __init__(self, head: bytes, body: Callable[[], bytes], *, until: float) -> None:
        self._head, self._body, self._until = head, body, until
        self._answer = b""
        self.took: list[float] = []
        self.failed = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, content = self._answer.partition(b"\r\n\r\n")
        if not end or len(content) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        now = time.perf_counter()
        self.took.append(now - self._began)
        self.failed += b" 200 " not in head[:16] or b'"error"' in content
        self._answer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()
            self.ended.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the server closed a connection"))

    def _send(self) -> None:
        data = self._body()
        self._began = time.perf_counter()
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(data), data))
