"""A thousand open streams in one web process: how much memory each takes, and how long an event is on its way."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks import ours
from benchmarks.figures import percentile, verdict
from benchmarks.processes import answers, finished, free_port, wait_for

TARGET_KB, TARGET_P99_MS = 30.0, 100.0
#: Events a second, over all tasks; and how long.
RATE, SECONDS = 200, 10
#: Streams that are opened and closed before memory is looked at: what is loaded at first use is no stream's.
WARM_UP = 50
SETTLE_S = 2.0


def main(services: dict[str, str], *, streams: int = 1000) -> None:
    """Prints memory and delays of one stream on each task, and delays of all streams on one task."""
    env = ours.environment(services, "streams")
    ours.seed(env, "pause", streams)
    task_ids = [str(row[0]) for row in ours.rows(env, "SELECT id FROM tasks_app_task ORDER BY id")]
    finished(sys.executable, "-m", "benchmarks.tick", "claim", env=env)
    port = free_port()
    with ours.web(env, port) as web:
        wait_for(lambda: answers(port))
        kb, spread_ms = asyncio.run(_spread(env, port, psutil.Process(web.pid), task_ids))
        shared_ms = asyncio.run(_shared(env, port, task_ids[0], streams))
    p99 = percentile(spread_ms, 99)
    print(f"  one stream on each task, {RATE} events/s: {_text(spread_ms)}")
    print(f"  {streams} streams on one task, an event a second: {_text(shared_ms)}")
    print(
        f"{streams} open streams in one web process: {kb:.1f} KB each (target <= {TARGET_KB:g}:"
        f" {verdict(kb, TARGET_KB)}), an event delivered in p99 {p99:.1f} ms (target <= {TARGET_P99_MS:g}:"
        f" {verdict(p99, TARGET_P99_MS)})"
    )


async def _spread(
    env: dict[str, str], port: int, web: psutil.Process, task_ids: list[str]
) -> tuple[float, list[float]]:
    """KB per stream, and every event's delay in ms, with one stream on each task."""
    for stream in [await _opened(port, task_id) for task_id in task_ids[:WARM_UP]]:
        await stream.aclose()
    await asyncio.sleep(SETTLE_S)
    before = web.memory_full_info().pss
    streams = [await _opened(port, task_id) for task_id in task_ids]
    await asyncio.sleep(SETTLE_S)
    kb = (web.memory_full_info().pss - before) / 1000 / len(streams)
    return kb, await _delays(env, streams, RATE, len(task_ids))


async def _shared(env: dict[str, str], port: int, task_id: str, count: int) -> list[float]:
    streams = [await _opened(port, task_id) for _ in range(count)]
    return await _delays(env, streams, 1, 1)


async def _delays(env: dict[str, str], streams: list[AsyncIterator[float]], rate: int, tasks: int) -> list[float]:
    """What the streams see while events are written."""
    delays: list[float] = []

    async def follow(stream: AsyncIterator[float]) -> None:
        async for delay_ms in stream:
            delays.append(delay_ms)

    following = [asyncio.create_task(follow(stream)) for stream in streams]
    command = [sys.executable, "-m", "benchmarks.tick", "write", str(tasks), str(rate), str(SECONDS)]
    await asyncio.to_thread(finished, *command, env=env)
    await asyncio.sleep(SETTLE_S)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    expected = rate * SECONDS * (len(streams) if tasks == 1 else 1)
    if len(delays) != expected:
        print(f"  NOT VALID: {len(delays)} of {expected} events were seen")
    return delays


async def _opened(port: int, task_id: str) -> Any:
    """A stream that has begun: yields how many milliseconds each further event was on its way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    params = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": task_id}}
    body = json.dumps(params).encode()
    head = "POST /a2a/pause/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nA2A-Version: 1.0\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    while b'"task"' not in await reader.readline():
        pass

    async def delays() -> AsyncIterator[float]:
        try:
            while line := await reader.readline():
                if line.startswith(b"data:"):
                    now = time.time()
                    update = json.loads(line[5:])["result"]["statusUpdate"]
                    written_at = datetime.fromisoformat(update["status"]["timestamp"]).timestamp()
                    yield 1000 * (now - written_at)
        finally:
            writer.close()

    return delays()


def _text(delays_ms: list[float]) -> str:
    p50, p99 = statistics.median(delays_ms), percentile(delays_ms, 99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {max(delays_ms):.1f} ms ({len(delays_ms)} deliveries)"
