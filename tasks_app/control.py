"""What operators do, for the admin and the command line alike: pause and limit, cancel, run again, put first.

Each function is done when it returns, may be repeated, and says whether it changed anything; it rings whoever must
know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import QuerySet, TextChoices
from django.db.models.functions import Now

from tasks_app import agents, engine, metrics
from tasks_app.dispatch.queues import queue_names
from tasks_app.engine import Cancelled, Created
from tasks_app.models import Breaker, Client, QueueControl, Task
from tasks_app.status import Lane, Priority
from tasks_app.wakeups import DISPATCH, LOOK, arrived, bell, cancelled

T = TypeVar("T")
#: As many tasks are changed in one transaction, so that no lock is held long.
BATCH = 200


class Scope(TextChoices):
    """What can be paused."""

    LANE = "lane"
    QUEUE = "queue"
    AGENT = "agent"
    CLIENT = "client"


#: The limits that each scope has: fields of QueueControl. A client's are its own fields.
LIMITS: dict[Scope, tuple[str, ...]] = {
    Scope.LANE: ("max_running",),
    Scope.QUEUE: (),
    Scope.AGENT: ("max_running", "dispatch_rate_per_s"),
}


class NotFound(LookupError):
    """There is no lane, queue, agent, client or breaker of this name; the text lists the names there are."""


def names(scope: Scope) -> list[str]:
    """All lanes, queues, agents or clients there are; also agents that are gone, where something is set for them."""
    if scope == Scope.LANE:
        return [lane.value for lane in Lane]
    if scope == Scope.QUEUE:
        return [name for lane in Lane for name in queue_names(lane)]
    if scope == Scope.CLIENT:
        return list(Client.objects.order_by("name").values_list("name", flat=True))
    known = QueueControl.objects.filter(scope=scope.value).values_list("name", flat=True)
    return sorted({*agents.registered(), *known})


def pause(scope: Scope, name: str) -> bool:
    """Lets nothing more of it through and takes back what no worker has claimed yet; what runs goes on.

    False if it was paused before. Raises :class:`NotFound`.
    """
    return _told(_rows(scope, name, make=True).filter(paused_at=None).update(paused_at=Now()))


def resume(scope: Scope, name: str) -> bool:
    """Lets it through again. False if it was not paused. Raises :class:`NotFound`."""
    return _told(_rows(scope, name).exclude(paused_at=None).update(paused_at=None))


def limit(scope: Scope, name: str, **limits: float | None) -> bool:
    """Sets the limits of a lane or an agent, by the names in :data:`LIMITS`; None takes one away.

    False if they stood so before. Raises :class:`NotFound`, or ValueError for a limit that this scope has not.
    """
    unknown = set(limits) - set(LIMITS.get(scope, ()))
    if unknown:
        raise ValueError(f"a {scope.value} has no limit {', '.join(sorted(unknown))}")
    rows = _rows(scope, name, make=any(value is not None for value in limits.values()))
    return _told(rows.exclude(**limits).update(**limits)) if limits else False


def close_breaker(agent: str, *, by: str) -> bool:
    """Closes the agent's circuit breaker now and forgets its failures. False if it was closed. Raises NotFound."""
    breakers = Breaker.objects.filter(agent=agent)
    if not breakers.exists():
        raise NotFound(f"agent '{agent}' has no circuit breaker")
    fields: dict[str, Any] = {"retry_at": None, "probe": None, "probe_epoch": None, "reason": f"closed by {by}"}
    return _told(
        breakers.exclude(state=Breaker.State.CLOSED).update(state=Breaker.State.CLOSED, changed_at=Now(), **fields)
    )


def look() -> None:
    """Tells the dispatcher that limits or pauses have changed, so that it acts at once."""
    bell.ring([(DISPATCH, LOOK)])


def cancel(task_ids: Sequence[UUID], *, by: str) -> list[Cancelled]:
    """Cancels those of the tasks that have not ended, and tells of it."""

    def some(ids: Sequence[UUID]) -> list[Cancelled]:
        done = engine.run(engine.request_cancel, ids, by=by)
        told_cancelled(done)
        return done

    return _batched(task_ids, some)


def told_cancelled(done: list[Cancelled]) -> None:
    """Counts what was cancelled, and rings for whoever waits for it or runs it."""
    metrics.cancelled(done)
    bell.ring(cancelled(done))


def rerun(task_ids: Sequence[UUID], *, placed: bool = False) -> list[Created]:
    """Makes a new task of each of these that has ended and whose agent is still there.

    ``placed``: only of those that still hold a place in a batch.
    """
    lanes = {name: spec.lane for name, spec in agents.registered().items()}

    def some(ids: Sequence[UUID]) -> list[Created]:
        made = engine.run(engine.rerun, ids, lanes=lanes, placed=placed)
        tasks = Task.objects.only("agent", "priority", "lane").in_bulk([item.task_id for item in made])
        metrics.created([tasks[item.task_id] for item in made], made)
        return made

    return _admit_soon(_batched(task_ids, some))


def prioritise(task_ids: Sequence[UUID], priority: Priority) -> list[UUID]:
    """Gives those of the tasks that still wait this priority; their ids."""

    def some(ids: Sequence[UUID]) -> list[UUID]:
        return engine.run(engine.reschedule, ids, priority=priority)

    return _admit_soon(_batched(task_ids, some))


def postpone(task_ids: Sequence[UUID], run_after: datetime) -> list[UUID]:
    """Lets those of the tasks that still wait start no sooner, a past instant is now; their ids."""

    def some(ids: Sequence[UUID]) -> list[UUID]:
        return engine.run(engine.reschedule, ids, run_after=run_after)

    return _admit_soon(_batched(task_ids, some))


def _rows(scope: Scope, name: str, *, make: bool = False) -> QuerySet[Any]:
    """The one row that holds what is set for it; ``make`` one where there is none. Rows are never deleted."""
    if scope == Scope.CLIENT:
        rows = Client.objects.filter(name=name)
        if not rows.exists():
            raise _not_found(scope, name)
        return rows
    if name not in names(scope):
        raise _not_found(scope, name)
    if make:
        QueueControl.objects.get_or_create(scope=scope.value, name=name)
    return QueueControl.objects.filter(scope=scope.value, name=name)


def _not_found(scope: Scope, name: str) -> NotFound:
    known = names(scope)
    return NotFound(f"no {scope.value} '{name}'; there are: {', '.join(known[:50]) or 'none'}")


def _told(changed: int) -> bool:
    if changed:
        look()
    return bool(changed)


def _batched(task_ids: Sequence[UUID], some: Callable[[Sequence[UUID]], Iterable[T]]) -> list[T]:
    return [item for start in range(0, len(task_ids), BATCH) for item in some(task_ids[start : start + BATCH])]


def _admit_soon(done: list[T]) -> list[T]:
    if done:
        bell.ring(arrived([Priority.CRITICAL]))  # it may be
    return done
