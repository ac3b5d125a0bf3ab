"""What operators look at, for the admin and the command line alike: lanes, queues and agents, and the workers.

Read through the partial indexes of what waits and what runs, so that it costs as much with ten million ended tasks as
with none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count
from django.utils import timezone

from tasks_app import agents, control, engine
from tasks_app.control import Scope
from tasks_app.dispatch.queues import queue_name, queue_names
from tasks_app.engine.admit import HEADS
from tasks_app.engine.core import Statement, Steps
from tasks_app.models import Breaker, QueueControl, TaskAttempt, Worker
from tasks_app.models.worker import silent_after_s
from tasks_app.status import Lane

#: As many tasks that wait are counted of each lane, priority, agent and client together; beyond it there are «more».
COUNT_MAX = 1_000
SILENT = "silent"

# Counts each group no further than is shown.
WAITING = f"""
{HEADS}
SELECT head.lane, head.priority, head.agent, counted.tasks, counted.later, head.run_after
FROM head, LATERAL (
    SELECT count(*) AS tasks, count(*) FILTER (WHERE run_after > now()) AS later
    FROM (SELECT run_after FROM tasks_app_task
          WHERE status = 'pending' AND admitted_at IS NULL AND deps_left = 0 AND lane = head.lane
            AND priority = head.priority AND agent = head.agent AND client_id = head.client_id
          ORDER BY run_after LIMIT %(limit)s) own
) counted
"""  # noqa: S608 (only constants are put in)
# By task_republish_idx and attempt_unreleased_idx: no more rows than the dispatcher lets through.
FLYING = """
SELECT lane, priority, agent, count(*), 0, min(run_after) FROM tasks_app_task
WHERE status = 'pending' AND admitted_at IS NOT NULL
GROUP BY lane, priority, agent
UNION ALL
SELECT task.lane, task.priority, task.agent, 0, count(*), NULL
FROM tasks_app_taskattempt attempt JOIN tasks_app_task task ON task.id = attempt.task_id
WHERE attempt.released_at IS NULL
GROUP BY task.lane, task.priority, task.agent
"""


class Group(NamedTuple):
    """Tasks of one lane, priority and agent. ``more``: there are more that wait than were counted."""

    lane: str
    priority: int
    agent: str
    waiting: int = 0
    later: int = 0
    dispatched: int = 0
    running: int = 0
    more: bool = False
    oldest_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A lane, a queue or an agent.

    ``waiting`` tasks are not in the broker, ``later`` of them not yet due; ``dispatched`` are in the broker and
    unclaimed; ``running`` hold a slot of a worker. ``oldest_s`` is how long the oldest that is due has waited.
    ``max_running`` and ``dispatch_rate_per_s`` are what holds, ``is_set`` whether an operator set one of them.
    ``breaker`` is the state of an agent's circuit breaker, ``is_known`` whether an agent is registered,
    ``is_lane_paused`` whether a queue is held up by its lane.
    """

    scope: Scope
    name: str
    waiting: int = 0
    more: bool = False
    later: int = 0
    dispatched: int = 0
    running: int = 0
    oldest_s: float | None = None
    paused_at: datetime | None = None
    max_running: int | None = None
    dispatch_rate_per_s: float | None = None
    is_set: bool = False
    breaker: str = ""
    is_known: bool = True
    is_lane_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLine:
    """A worker; ``running`` is how many of its slots are taken."""

    worker: Worker
    state: str
    running: int


def queues() -> list[Line]:
    """Every lane, then every queue, then every agent there is or of which tasks are under way."""
    now = timezone.now()
    found = engine.run(groups)
    controls = {(row.scope, row.name): row for row in QueueControl.objects.all()}
    paused = {name for (scope, name), row in controls.items() if scope == Scope.LANE.value and row.paused_at}
    held_up = {queue for lane in paused for queue in queue_names(Lane(lane))}
    breakers = dict(Breaker.objects.values_list("agent", "state"))
    kinds: list[tuple[Scope, Callable[[Group], str]]] = [
        (Scope.LANE, lambda group: group.lane),
        (Scope.QUEUE, lambda group: queue_name(group.lane, group.priority)),
        (Scope.AGENT, lambda group: group.agent),
    ]
    lines = []
    for scope, name_of in kinds:
        known = control.names(scope)
        extra = sorted({name_of(group) for group in found} - set(known))
        for name in [*known, *extra]:
            own = [group for group in found if name_of(group) == name]
            lines.append(_line(scope, name, own, controls.get((scope.value, name)), breakers, now))
    return [replace(line, is_lane_paused=True) if line.name in held_up else line for line in lines]


def workers(*, gone: bool = False) -> list[WorkerLine]:
    """The workers by lane and name; those that are offline only if ``gone``."""
    rows = Worker.objects.order_by("lane", "name")
    shown = list(rows if gone else rows.exclude(state=Worker.State.OFFLINE))
    names = [worker.name for worker in shown]
    taken = dict(
        TaskAttempt.objects.filter(worker__in=names, released_at=None)
        .order_by()
        .values_list("worker")
        .annotate(count=Count("id"))
    )
    return [WorkerLine(worker=worker, state=state_of(worker), running=taken.get(worker.name, 0)) for worker in shown]


def state_of(worker: Worker) -> str:
    """Its state as it announced it, or «silent» where it has not been heard of for three heartbeats."""
    late = (timezone.now() - worker.heartbeat_at).total_seconds() > silent_after_s()
    return SILENT if late and worker.state != Worker.State.OFFLINE else str(worker.state)


def groups() -> Steps[list[Group]]:
    """What waits and what runs, by lane, priority and agent; some of these several times."""
    found = []
    for lane, priority, agent, waiting, later, oldest_at in (yield Statement(WAITING, {"limit": COUNT_MAX + 1})):
        more = waiting > COUNT_MAX
        found.append(Group(lane, priority, agent, min(waiting, COUNT_MAX), later, more=more, oldest_at=oldest_at))
    for lane, priority, agent, dispatched, running, oldest_at in (yield Statement(FLYING, {})):
        found.append(Group(lane, priority, agent, dispatched=dispatched, running=running, oldest_at=oldest_at))
    return found


def _line(
    scope: Scope,
    name: str,
    own: Sequence[Group],
    row: QueueControl | None,
    breakers: dict[str, str],
    now: datetime,
) -> Line:
    spec = agents.registered().get(name) if scope == Scope.AGENT else None
    return Line(
        scope=scope,
        name=name,
        waiting=sum(group.waiting for group in own),
        more=any(group.more for group in own),
        later=sum(group.later for group in own),
        dispatched=sum(group.dispatched for group in own),
        running=sum(group.running for group in own),
        oldest_s=_oldest_s(own, now),
        paused_at=row.paused_at if row else None,
        max_running=_first(row and row.max_running, spec and spec.max_running),
        dispatch_rate_per_s=_first(row and row.dispatch_rate_per_s, spec and spec.dispatch_rate_per_s),
        is_set=row is not None and (row.max_running is not None or row.dispatch_rate_per_s is not None),
        breaker=breakers.get(name, "") if scope == Scope.AGENT else "",
        is_known=scope != Scope.AGENT or spec is not None,
    )


def _oldest_s(own: Iterable[Group], now: datetime) -> float | None:
    oldest_at = min((group.oldest_at for group in own if group.oldest_at is not None), default=None)
    return (now - oldest_at).total_seconds() if oldest_at is not None and oldest_at <= now else None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
