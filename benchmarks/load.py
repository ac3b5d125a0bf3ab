"""A load generator: many clients, each with one connection, each sending its next request when the last is answered."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run of the generator saw; times in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


async def load(
    url: str, body: Callable[[], bytes], *, clients: int, seconds: float, headers: Mapping[str, str] | None = None
) -> Measured:
    """POSTs bodies as JSON for so long. An answer with another status than 200, or with an error in it, has failed."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    parts = urlsplit(url)
    assert parts.hostname is not None
    until = time.perf_counter() + seconds
    took: list[float] = []
    failed = 0

    async def client() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while time.perf_counter() < until:
            data = body()
            began = time.perf_counter()
            head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}{more}A2A-Version: 1.0\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
            answered = await reader.readuntil(b"\r\n\r\n")
            length = int(answered.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            took.append(time.perf_counter() - began)
            if b" 200 " not in answered[:16] or b'"error"' in answer:
                failed += 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(clients)])
    elapsed = time.perf_counter() - began
    ordered = sorted(took)
    return Measured(
        rate=len(took) / elapsed,
        p50_ms=1000 * statistics.median(ordered),
        p99_ms=1000 * ordered[int(len(ordered) * 0.99)],
        failed=failed,
    )
