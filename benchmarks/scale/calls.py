"""``python -m benchmarks.scale.calls``: calls the engine's verbs on one database, as told on standard input.

``{"list": true}`` is answered with the groups of verbs; ``{"verbs": [...], "times": n}`` with the times of n calls of
each verb of a group, in milliseconds; ``{"plans": "<file>"}`` writes the plans of one more call of each to the file and
is answered with the buffers that each verb touched. To follow the engine, change the functions of LIFE and SWEEPS.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import django

django.setup()

from django.db import connection

from benchmarks.scale.plans import Plans
from benchmarks.seed import new_task
from tasks_app import engine
from tasks_app.a2a.extension import TaskOptions
from tasks_app.authentication import Caller
from tasks_app.dispatch import heads
from tasks_app.dispatch.heads import Heads
from tasks_app.dispatch.plan import Plan, Rules
from tasks_app.engine import Claim, ClaimRequest, Finish, Hint, Steps, Write
from tasks_app.engine.admit import GroupKey
from tasks_app.models import Client, Outcome
from tasks_app.policies import BreakerPolicy
from tasks_app.status import TERMINAL, Lane, Priority, TaskStatus
from workers.context import Context
from workers.scratch import Scratch


@dataclass
class Cycle:
    """What one call leaves for the next."""

    caller: Caller
    #: What the dispatcher remembers of the groups that wait.
    heads: Heads
    #: From which the last task was taken.
    group: GroupKey
    hint: Hint | None = None
    claim: Claim | None = None
    records: list[Any] = field(default_factory=list)

    # What a context asks of its recorder.
    lost = False

    def alive(self) -> None: ...

    async def flush(self) -> None: ...

    def keep(self, record: Any) -> None:
        self.records.append(record)

    add = store = keep


def submit(cycle: Cycle) -> Callable[[], Any]:
    """Of the group that the last was taken from, so that as many wait and run as before."""
    lane, priority, agent, client_id = group = cycle.group
    known = new_task(cycle.caller, agent, TaskOptions())
    task = replace(known, lane=Lane(lane), priority=Priority(priority), client_id=client_id)
    cycle.heads.changed(group)
    return lambda: engine.run(engine.create, [task])


def look(cycle: Cycle) -> Callable[[], Any]:
    """A round that looks at all groups: the dispatcher's every 0.2 s at most, if they are many."""

    def call() -> None:
        admission = engine.run(engine.admit, lambda scene: Plan({}, Rules(), scene, served={}))
        cycle.heads.learn(admission.known, everything=True)

    return call


def admit(cycle: Cycle) -> Callable[[], Any]:
    """A round between two of those."""
    known = cycle.heads.known()
    assert known is not None

    def call() -> None:
        room = {Lane.CPU: 1}
        admission = engine.run(engine.admit, lambda scene: Plan(room, Rules(), scene, served={}), known=known)
        cycle.heads.learn(admission.known, everything=False)
        (cycle.hint,), (cycle.group,) = admission.hints, admission.known.changed

    return call


def claim(cycle: Cycle) -> Callable[[], Any]:
    assert cycle.hint is not None
    request = ClaimRequest(
        task_id=cycle.hint.task_id, epoch=cycle.hint.epoch, attempt_id=uuid4(), worker="bench-cpu", pid=1
    )

    def call() -> None:
        (cycle.claim,) = engine.run(engine.claim, [request])

    return call


def finish(cycle: Cycle) -> Callable[[], Any]:
    assert cycle.claim is not None
    cycle.records.clear()
    Context(cycle.claim, cycle, Scratch(Path("never made"))).result("done")
    end = Finish(status=TaskStatus.COMPLETED, outcome=Outcome.COMPLETED)
    item = Write(
        task_id=cycle.claim.task_id, attempt_id=cycle.claim.attempt_id, records=tuple(cycle.records), finish=end
    )

    def call() -> None:
        assert engine.run(engine.write, [item])[0].accepted

    return call


def sweep(verb: Callable[..., Steps[Any]], *args: Any) -> Callable[[Cycle], Callable[[], Any]]:
    """A verb that needs nothing of the cycle."""
    return lambda cycle: lambda: engine.run(verb, *args)


KEEP_S = dict.fromkeys(sorted(TERMINAL), 30 * 86_400.0)
BREAKERS = {"noop": BreakerPolicy(rate=0.5), "echo": BreakerPolicy(rate=0.5)}
#: Each needs what the one before it left.
LIFE: dict[str, Callable[[Cycle], Callable[[], Any]]] = {
    "submit": submit,
    "look": look,
    "admit": admit,
    "claim": claim,
    "finish": finish,
}
SWEEPS: dict[str, Callable[[Cycle], Callable[[], Any]]] = {
    "republish": sweep(engine.republish),
    "rescue": sweep(engine.rescue),
    "expire": sweep(engine.expire),
    "prune": sweep(engine.prune, KEEP_S),
    "tick": sweep(engine.tick),
    "sweep_is_late": sweep(engine.sweep_is_late),
    "judge": sweep(engine.judge, BREAKERS),
}


VERBS = {**LIFE, **SWEEPS}


def main() -> None:
    client = Client.objects.order_by("id")[0]
    heads.REMEMBER_S = 60.0  # whatever the other verbs take
    group = GroupKey(Lane.CPU, Priority.NORMAL, "noop", client.pk)
    cycle = Cycle(Caller(client_id=client.pk, name=client.name), heads.Heads(), group)
    _share_a_core()
    for line in sys.stdin:
        asked = json.loads(line)
        answer: Any
        if "list" in asked:
            answer = [list(LIFE), *([name] for name in SWEEPS)]
        elif "plans" in asked:
            answer = _plans(cycle, Path(asked["plans"]))
        else:
            answer = _times(cycle, asked["verbs"], asked["times"])
        print(json.dumps(answer), flush=True)


def _share_a_core() -> None:
    """Binds this process and its server process to one core: else it is chance whether a call has to wake another."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        server = cursor.fetchone()[0]
    core = {min(os.sched_getaffinity(0))}
    for pid in (0, server):
        try:
            os.sched_setaffinity(pid, core)
        except OSError as error:
            print(f"  could not bind process {pid} to a core, which blurs the figures: {error}", file=sys.stderr)


def _times(cycle: Cycle, verbs: list[str], count: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in verbs}
    for name in verbs * count:
        call = VERBS[name](cycle)
        began = time.perf_counter()
        call()
        times[name].append(1000 * (time.perf_counter() - began))
    return times


def _plans(cycle: Cycle, file: Path) -> dict[str, int]:
    buffers: dict[str, int] = {}
    with file.open("w") as output, Plans(connection.connection) as plans:
        for name, prepare in VERBS.items():
            call = prepare(cycle)
            plans.clear()
            call()
            buffers[name] = plans.buffers
            output.write(f"==== {name}: {plans.buffers} buffers\n{plans.text}\n\n")
    return buffers


if __name__ == "__main__":
    main()
