"""A batch against the same tasks one by one: to submit, to store, to admit, and to follow."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import psutil  # type: ignore[import-untyped]

from benchmarks import ours
from benchmarks.a2a import _submit
from benchmarks.figures import median, verdict
from benchmarks.load import load
from benchmarks.processes import answers, finished, free_port, said, wait_for

CLIENTS = 32
SECONDS = 4.0
ONE_RATIO, MANY_RATIO, TARGET_PER_S = 5.5, 1.0, 5000.0
CREATE_RATIO, ADMIT_RATIO = 5.0, 4.0
FOLLOW_RATIO, CPU_SHARE = 3.5, 0.1
#: Of what is followed: how many updates a second over all tasks, for how long, and how often a client polls.
RATE, FOLLOW_S, POLL_S = 200, 10, 1.0
#: Tasks that are stored and admitted one by one.
SINGLY = 1000

#: (task, generation) → when it was seen.
Seen = list[tuple[str, int, float]]


def main(services: dict[str, str], *, tasks: int = 10_000, followed: int = 1000, rounds: int = 3) -> None:
    """Prints each round, and the median ratios."""
    _submits(services, tasks, rounds)
    _verbs(services, tasks, rounds)
    _follows(services, followed)


# Submit --------------------------------------------------------------------------------------------------------------


def _submits(services: dict[str, str], tasks: int, rounds: int) -> None:
    env, port = ours.environment(services, "batch"), free_port()
    rates: list[tuple[float, float, float]] = []
    with ours.web(env, port):
        wait_for(lambda: answers(port))
        _one_by_one(port, 1, 1.0)
        for number in range(1, rounds + 1):
            one, many = _one_by_one(port, 1, SECONDS), _one_by_one(port, CLIENTS, SECONDS)
            rates.append((_batch(port, tasks), one, many))
            batch = rates[-1][0]
            print(f"  round {number}: a batch of {tasks} {batch:.0f}/s; one client {one:.0f}/s, {CLIENTS} {many:.0f}/s")
    whole = median([batch for batch, _, _ in rates])
    to_one, to_many = (median([rate[0] / rate[place] for rate in rates]) for place in (1, 2))
    _print(f"a batch of {tasks}, tasks a second", whole, TARGET_PER_S, ".0f")
    _print("the same, to one client that submits one by one", to_one, ONE_RATIO)
    _print(f"the same, to {CLIENTS} clients", to_many, MANY_RATIO)


def _one_by_one(port: int, clients: int, seconds: float) -> float:
    prefix, numbers = uuid4().hex, itertools.count()
    url = f"http://127.0.0.1:{port}/a2a/pause/"
    return load(url, lambda: _submit(f"{prefix}-{next(numbers)}"), clients=clients, seconds=seconds).rate


def _batch(port: int, tasks: int) -> float:
    body = {
        "defaults": {"agent": "pause"},
        "tasks": [{"message": {"parts": [{"text": "hello"}]}} for _ in range(tasks)],
    }
    content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    began = time.perf_counter()
    reply = httpx.post(f"http://127.0.0.1:{port}/api/v1/batches/", content=content, headers=headers, timeout=120)
    took = time.perf_counter() - began
    assert (reply.status_code, reply.json()["counts"]["pending"]) == (201, tasks), reply.text
    return tasks / took


# Store and admit -----------------------------------------------------------------------------------------------------


def _verbs(services: dict[str, str], tasks: int, rounds: int) -> None:
    ratios: dict[str, list[float]] = {"create": [], "admit": []}
    env = ours.environment(services, "batch_verbs")
    for number in range(1, rounds + 1):
        found = json.loads(said(sys.executable, "-m", "benchmarks.verbs", str(tasks), str(SINGLY), env=env))
        for verb, (lists, singly) in found.items():
            ratios[verb].append(lists / singly)
            print(f"  round {number}: {verb} in lists {lists:.0f}/s, one by one {singly:.0f}/s")
    _print("create, in lists to one by one", median(ratios["create"]), CREATE_RATIO)
    _print("admit, the same", median(ratios["admit"]), ADMIT_RATIO)


# Follow --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Followed:
    """How long updates were on their way, in ms, and what the web process and PostgreSQL used, in seconds."""

    delays_ms: list[float]
    cpu_s: float


def _follows(services: dict[str, str], tasks: int) -> None:
    env, port = ours.environment(services, "batch_followed"), free_port()
    with ours.web(env, port) as web:
        wait_for(lambda: answers(port))
        _batch(port, tasks)
        finished(sys.executable, "-m", "benchmarks.tick", "claim", env=env)
        batch_id = str(ours.one(env, "SELECT id FROM tasks_app_batch"))
        ids = [str(row[0]) for row in ours.rows(env, "SELECT id FROM tasks_app_task ORDER BY id")]
        process = psutil.Process(web.pid)
        nobody = _followed(env, process, len(ids), _nothing)
        stream = _followed(env, process, len(ids), lambda: _stream(port, batch_id))
        polls = _followed(env, process, len(ids), lambda: _polls(port, ids))
    for name, found in (("one stream", stream), (f"{tasks} clients that poll each {POLL_S:g} s", polls)):
        cpu = found.cpu_s - nobody.cpu_s
        text = f"p50 {statistics.median(found.delays_ms):.0f} ms, mean {statistics.mean(found.delays_ms):.0f} ms"
        print(f"  {name}: {text} ({len(found.delays_ms)} updates), {cpu:.2f} s of CPU in {FOLLOW_S} s")
    faster = statistics.mean(polls.delays_ms) / statistics.mean(stream.delays_ms)
    share = (stream.cpu_s - nobody.cpu_s) / (polls.cpu_s - nobody.cpu_s)
    _print(f"following {tasks} tasks on one stream, to clients that poll", faster, FOLLOW_RATIO)
    print(f"its CPU, as a share of theirs: {share:.3f} (target <= {CPU_SHARE:g}: {verdict(share, CPU_SHARE)})")


async def _nothing() -> AsyncIterator[tuple[str, int]]:
    while True:
        await asyncio.sleep(1)
        if False:
            yield "", 0


def _followed(
    env: dict[str, str], web: psutil.Process, tasks: int, follow: Callable[[], AsyncIterator[tuple[str, int]]]
) -> Followed:
    """What is seen, and used, while updates are written."""
    since = ours.one(env, "SELECT now()")
    used = _cpu_s(web)
    seen = asyncio.run(_while_written(env, tasks, follow()))
    cpu_s = _cpu_s(web) - used
    at = {(str(row[0]), row[1]): row[2].timestamp() for row in ours.rows(env, UPDATES, since)}
    first: dict[str, list[tuple[int, float]]] = {}
    for task_id, generation, when in seen:
        first.setdefault(task_id, []).append((generation, when))
    delays_ms = []
    for (task_id, generation), written_at in at.items():
        tellings = sorted(first.get(task_id, []))
        place = bisect_left(tellings, (generation, 0.0))
        if place < len(tellings):
            delays_ms.append(1000 * (tellings[place][1] - written_at))
    return Followed(delays_ms or [0.0], cpu_s)


UPDATES = "SELECT task_id, generation, created_at FROM tasks_app_taskevent WHERE created_at > %s AND kind = 'progress'"


async def _while_written(env: dict[str, str], tasks: int, updates: AsyncIterator[tuple[str, int]]) -> Seen:
    seen: Seen = []

    async def follow() -> None:
        async for task_id, generation in updates:
            seen.append((task_id, generation, time.time()))

    following = asyncio.create_task(follow())
    await asyncio.sleep(2 * POLL_S)
    command = [sys.executable, "-m", "benchmarks.tick", "write", str(tasks), str(RATE), str(FOLLOW_S)]
    await asyncio.to_thread(finished, *command, env=env)
    await asyncio.sleep(2 * POLL_S)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return seen


async def _stream(port: int, batch_id: str) -> AsyncIterator[tuple[str, int]]:
    url = f"http://127.0.0.1:{port}/api/v1/batches/{batch_id}/events/"
    # It ends when it is cancelled.
    async with httpx.AsyncClient(timeout=None) as client, client.stream("GET", url) as reply:  # noqa: S113
        async for line in reply.aiter_lines():
            if line.startswith("data: ["):
                for task in json.loads(line[6:]):
                    yield task["task_id"], task["generation"]


async def _polls(port: int, task_ids: list[str]) -> AsyncIterator[tuple[str, int]]:
    """What each of as many clients, each with a connection and a task, sees; they do not ask all at once."""
    found: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    clients: list[Coroutine[Any, Any, None]] = [
        _poll(port, task_id, POLL_S * number / len(task_ids), found) for number, task_id in enumerate(task_ids)
    ]
    polling = [asyncio.create_task(client) for client in clients]
    try:
        while True:
            yield await found.get()
    finally:
        for task in polling:
            task.cancel()


async def _poll(port: int, task_id: str, wait_s: float, found: asyncio.Queue[tuple[str, int]]) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": task_id, "historyLength": 0}}
    body = json.dumps(call).encode()
    head = "POST /a2a/pause/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nA2A-Version: 1.0\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    await asyncio.sleep(wait_s)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    known = 0
    while True:
        began = time.perf_counter()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        task = json.loads(await reader.readexactly(length))["result"]
        generation = int(task["metadata"]["generation"])
        if generation != known:
            known = generation
            found.put_nowait((task_id, generation))
        await asyncio.sleep(max(0.0, POLL_S - (time.perf_counter() - began)))


def _cpu_s(web: psutil.Process) -> float:
    """Processor time so far, of the web process and of all of PostgreSQL's that live."""
    used = 0.0
    for process in (web, *(each for each in psutil.process_iter() if each.name().startswith("postgres"))):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used += times.user + times.system
    return used


def _print(text: str, value: float, target: float, digits: str = ".1f") -> None:
    print(f"{text}: {value:{digits}} (target >= {target:g}: {verdict(value, target, at_least=True)})")
