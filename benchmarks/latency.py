"""From submit to start, and to the end as a client sees it, on an idle system: one task at a time."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from benchmarks import ours
from benchmarks.door import Door
from benchmarks.figures import percentile, verdict
from stack import Stack
from stack.databases import fresh_database

AGENTS = {"io": "pause", "cpu": "noop"}
PROCESSES = ["web", "dispatcher", "worker-cpu", "worker-io", "worker-system", "beat"]
TARGET_P50_MS, TARGET_P99_MS = 15.0, 60.0
#: Random, so that nothing falls into step with polls and heartbeats.
PAUSE_S = (0.02, 0.15)
WARM_UP = 20


def main(services: dict[str, str], *, tasks: int = 300) -> None:
    """Prints both lanes; ``tasks`` of each, in turn. A start is by the database's clock, the end by the client's."""
    env = {
        **services,
        "DATABASE_URL": fresh_database(services["DATABASE_URL"], "a2a_bench_latency"),
        "A2A_OPEN_MODE": "1",
        "A2A_AGENTS": "benchmarks.agents",
    }
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), env=env, processes=PROCESSES, embedded=False, port=0)
        stack.start()
        try:
            stack.wait_ready()
            ours.wait_online(env, *AGENTS)
            ended_ms = _run(Door(stack.url), tasks)
            started_ms = {lane: _started_ms(env, agent, tasks) for lane, agent in AGENTS.items()}
        finally:
            stack.stop()
    for lane in AGENTS:
        print(f"  {lane}: submit to start {_text(started_ms[lane])}; submit to the end seen {_text(ended_ms[lane])}")
    worst = max(AGENTS, key=lambda lane: percentile(started_ms[lane], 99))
    p50, p99 = (max(percentile(started_ms[lane], percent) for lane in AGENTS) for percent in (50, 99))
    print(
        f"submit to start on an idle system, the slower lane: p50 {p50:.1f} ms (target <= {TARGET_P50_MS:g}:"
        f" {verdict(p50, TARGET_P50_MS)}), p99 {p99:.1f} ms of {worst} (target <= {TARGET_P99_MS:g}:"
        f" {verdict(p99, TARGET_P99_MS)})"
    )


def _run(door: Door, tasks: int) -> dict[str, list[float]]:
    """Sends each task when the last has ended and a pause has passed; how long each took, without the warm-up."""
    pauses = random.Random(1)
    ended_ms: dict[str, list[float]] = {lane: [] for lane in AGENTS}
    for number in range(WARM_UP + tasks):
        for lane, agent in AGENTS.items():
            time.sleep(pauses.uniform(*PAUSE_S))
            began = time.perf_counter()
            status = door.follow(door.submit(agent, parameters={"seconds": 0} if lane == "io" else {}))
            if status != "completed":
                raise RuntimeError(f"a task of {agent} ended as {status}")
            if number >= WARM_UP:
                ended_ms[lane].append(1000 * (time.perf_counter() - began))
    return ended_ms


def _started_ms(env: dict[str, str], agent: str, tasks: int) -> list[float]:
    query = (
        "SELECT extract(epoch FROM started_at - created_at)::float8 FROM tasks_app_task"
        " WHERE agent = %s ORDER BY id DESC LIMIT %s"
    )
    return [1000 * row[0] for row in ours.rows(env, query, agent, tasks)]


def _text(values_ms: list[float]) -> str:
    p50, p99 = percentile(values_ms, 50), percentile(values_ms, 99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {max(values_ms):.1f} ms"
