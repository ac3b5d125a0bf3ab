"""Whether critical tasks overtake: ten thousand low ones wait, two processes are busy with tasks of 50 ms."""

from __future__ import annotations

import random
import time

from benchmarks import ours
from benchmarks.door import Door
from benchmarks.figures import percentile, verdict
from benchmarks.processes import answers, free_port, wait_for

SLOTS, TASK_S = 2, 0.05
TARGET_DURATIONS, TARGET_SHARE = 2.0, 0.95
PAUSE_S = (0.05, 0.3)

STARTED = "SELECT count(*) FROM tasks_app_task WHERE priority = 0 AND started_at IS NOT NULL"
WAITED = """
SELECT extract(epoch FROM started_at - created_at)::float8 FROM tasks_app_task WHERE priority = 0 ORDER BY id LIMIT %s
"""
# While any of the batch waits: from its acceptance to its last start.
SHARE = """
WITH batch AS (SELECT * FROM tasks_app_task WHERE priority = 0 ORDER BY id DESC LIMIT %s),
     span AS (SELECT min(created_at) AS a, max(started_at) AS b FROM batch)
SELECT (SELECT count(*) FROM batch), (SELECT count(*) FROM tasks_app_task, span WHERE started_at BETWEEN a AND b),
       (SELECT extract(epoch FROM b - a)::float8 FROM span)
"""


def main(services: dict[str, str], *, waiting: int = 10_000, single: int = 100, together: int = 200) -> None:
    """Prints how long single critical tasks wait, in task durations, and what share of the starts a crowd gets."""
    env = ours.environment(services, "priority")
    port = free_port()
    ours.seed(env, "busy", waiting, priority="low", seconds=TASK_S)
    with ours.dispatcher(env), ours.worker(env, "cpu", SLOTS), ours.web(env, port):
        wait_for(lambda: answers(port))
        ours.wait_completed(env, 100, timeout_s=60)
        _one_at_a_time(env, Door(f"http://127.0.0.1:{port}"), single)
        ours.seed(env, "busy", together, priority="critical", seconds=TASK_S)
        wait_for(lambda: ours.one(env, STARTED) >= single + together, timeout_s=120, pause_s=0.2)
        left = ours.one(env, "SELECT count(*) FROM tasks_app_task WHERE priority = 3 AND started_at IS NULL")
    durations = [row[0] / TASK_S for row in ours.rows(env, WAITED, single)]
    critical, started, took_s = ours.rows(env, SHARE, together)[0]
    p50, p95, share = percentile(durations, 50), percentile(durations, 95), critical / started
    print(
        f"  {single} critical, one at a time: p50 {p50:.2f}, p95 {p95:.2f}, at most {max(durations):.2f} task durations"
    )
    print(
        f"  {together} critical at once: {critical} of {started} starts in {took_s:.1f} s,"
        f" {started / took_s / (SLOTS / TASK_S):.0%} of what the slots can start"
    )
    if not left:
        print("  NOT VALID: the low ones ran out; wait with more (waiting=...)")
    print(
        f"a critical task among {waiting} low starts within p95 {p95:.2f} task durations"
        f" (target <= {TARGET_DURATIONS:g}: {verdict(p95, TARGET_DURATIONS)}); {together} critical at once"
        f" take {share:.1%} of the starts while any of them wait"
        f" (target >= {TARGET_SHARE:.0%}: {verdict(share, TARGET_SHARE, at_least=True)})"
    )


def _one_at_a_time(env: dict[str, str], door: Door, tasks: int) -> None:
    pauses = random.Random(1)
    for number in range(1, tasks + 1):
        time.sleep(pauses.uniform(*PAUSE_S))
        door.submit("busy", priority="critical", parameters={"seconds": TASK_S})
        wait_for(lambda: ours.one(env, STARTED) >= number)  # noqa: B023 (called within the round)
