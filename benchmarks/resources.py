"""Dispatch by declared memory, against a concurrency that is sized for the largest task: one worker of 4 GB each."""

from __future__ import annotations

import random

from benchmarks import ours
from benchmarks.door import Door
from benchmarks.figures import median, verdict
from benchmarks.processes import answers, free_port, wait_for

WORKER_MB, LARGE_MB, SMALL_MB = 4096, 1024, 50
#: One task in ten is large.
LARGE_SHARE = 0.1
TASK_S = 0.4
STATIC_SLOTS, DECLARED_SLOTS = WORKER_MB // LARGE_MB, 24
TARGET = 3.0

RUNS = """
SELECT extract(epoch FROM started_at)::float8, extract(epoch FROM completed_at)::float8,
       (request.resources ->> 'memory_mb')::int
FROM tasks_app_task task JOIN tasks_app_taskrequest request ON request.task_id = task.id
WHERE task.status = 'completed' ORDER BY task.id DESC LIMIT %s
"""


def main(services: dict[str, str], *, tasks: int = 240, rounds: int = 3) -> None:
    """Prints each round and the median ratio. The tasks sleep: what counts is how many run at once.

    Static is a worker that announces no memory, with as many processes as have room for the largest task each.
    Declared is one with more processes, that announces 4 GB and leaves the rest to the dispatcher.
    """
    env = ours.environment(services, "resources")
    declared_env = {**env, "A2A_WORKER_MEMORY_MB": str(WORKER_MB)}
    ratios, worst_mb, done = [], 0, 0
    for number in range(1, rounds + 1):
        static_rate, _ = _round(env, STATIC_SLOTS, tasks, done := done + tasks)
        declared_rate, peak_mb = _round(declared_env, DECLARED_SLOTS, tasks, done := done + tasks)
        ratios.append(declared_rate / static_rate)
        worst_mb = max(worst_mb, peak_mb)
        print(
            f"  round {number}: {STATIC_SLOTS} processes {static_rate:.1f}/s; {DECLARED_SLOTS} processes by declared"
            f" memory {declared_rate:.1f}/s, {peak_mb} of {WORKER_MB} MB at most; ratio {ratios[-1]:.2f}"
        )
    if worst_mb > WORKER_MB:
        print(f"  NOT VALID: {worst_mb} MB ran at once in a worker of {WORKER_MB}: declarations were not heeded")
    ratio = median(ratios)
    print(
        f"dispatch by declared resources, median ratio to a static concurrency: {ratio:.2f}"
        f" (target >= {TARGET:g}: {verdict(ratio, TARGET, at_least=True)})"
    )


def _round(env: dict[str, str], slots: int, tasks: int, done: int) -> tuple[float, int]:
    """Tasks a second from the first start to the last end, and the most declared memory that ran at once, in MB."""
    port = free_port()
    with ours.web(env, port):
        wait_for(lambda: answers(port))
        door, large = Door(f"http://127.0.0.1:{port}"), round(tasks * LARGE_SHARE)
        sizes = [LARGE_MB] * large + [SMALL_MB] * (tasks - large)
        random.Random(1).shuffle(sizes)
        for size in sizes:
            door.submit("busy", parameters={"seconds": TASK_S}, resources={"memory_mb": size})
    with ours.dispatcher(env), ours.worker(env, "cpu", slots):
        ours.wait_completed(env, done, timeout_s=180)
    runs = ours.rows(env, RUNS, tasks)
    return tasks / (max(run[1] for run in runs) - min(run[0] for run in runs)), _peak(runs)


def _peak(runs: list[tuple[float, float, int]]) -> int:
    """The most that ran at once; who ends at the instant another starts has left."""
    changes = sorted([(start, 1, size) for start, _, size in runs] + [(end, 0, -size) for _, end, size in runs])
    now = most = 0
    for _, _, change in changes:
        now += change
        most = max(most, now)
    return most
