"""``python -m benchmarks.tick claim|write …``: plays the workers of the streams benchmark, by the engine's verbs."""

from __future__ import annotations

import random
import sys
import time
from uuid import UUID, uuid4

import django

django.setup()

from tasks_app import engine
from tasks_app.dispatch.plan import Plan, Rules
from tasks_app.engine import ClaimRequest, Note, Write
from tasks_app.models import Task
from tasks_app.status import Lane, TaskStatus
from tasks_app.wakeups import bell, rings

BATCH = 500


def claim() -> None:
    """Every task of the database begins to run."""
    while Task.objects.filter(status=TaskStatus.PENDING).exists():
        hints = engine.run(
            engine.admit, lambda scene: Plan({Lane.IO: BATCH}, Rules(), scene, served={}), rates={}, probing=[]
        ).hints
        items = [
            ClaimRequest(task_id=hint.task_id, epoch=hint.epoch, attempt_id=uuid4(), worker="tick", pid=1)
            for hint in hints
        ]
        engine.run(engine.claim, items)


def write(tasks: int, rate: int, seconds: int) -> None:
    """So many messages a second, each of one of the first tasks, drawn at random."""
    running = list(Task.objects.order_by("id").values_list("id", "lease_id", "recorded")[:tasks])
    recorded = {row[0]: row[2] for row in running}
    leases: dict[UUID, UUID] = {row[0]: row[1] for row in running}
    chance, began = random.Random(1), time.perf_counter()
    for number in range(rate * seconds):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        task_id = chance.choice(list(leases))
        item = Write(
            task_id=task_id,
            attempt_id=leases[task_id],
            recorded=recorded[task_id],
            records=(Note(kind="progress", progress=0.5),),
        )
        assert engine.run(engine.write, [item])[0].accepted
        recorded[task_id] += 1
        bell.ring(rings("io", [task_id]))


if __name__ == "__main__":
    if sys.argv[1] == "claim":
        claim()
    else:
        write(*map(int, sys.argv[2:]))
