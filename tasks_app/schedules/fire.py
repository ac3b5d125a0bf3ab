"""Makes the tasks of schedules that are due: each instant once, however many do so at the same time.

Everything of a schedule happens under the lock of its row, by the database's clock: what its ``next_at`` has passed is
dealt with, entered in the ledger of fires, and ``next_at`` moved on. Beat only says when to look.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet

from tasks_app import control, engine, filing, intake, metrics
from tasks_app.a2a.errors import A2AError, ResourceExhaustedError
from tasks_app.authentication import Caller
from tasks_app.database import OUTAGES
from tasks_app.engine import NewTask
from tasks_app.models import Fire, Schedule
from tasks_app.schedules import times
from tasks_app.submissions import submission
from tasks_app.wakeups import accepted, bell

log = logging.getLogger(__name__)

#: An instant that passed no longer ago was not missed, in seconds.
LATE_S = 60.0
#: As many instants of a schedule are dealt with in a sweep; the others in the next.
DUE_MAX = 100
#: As long a sweep may take, in seconds, so that it holds up nobody else's.
LONGEST_S = 5.0
METHOD = "schedules.fire"


def fire_due(*, now: datetime | None = None, leaving: threading.Event | None = None) -> int:
    """Fires every schedule that is due, once, and what waits for the end of a task that has ended; how many schedules.

    ``now`` is the database's clock unless it is said. Ends early when ``leaving`` is set.
    """
    seen: set[UUID] = set()
    until = time.monotonic() + LONGEST_S
    while not (leaving is not None and leaving.is_set()) and time.monotonic() < until and _fire_one(now, seen):
        pass
    return len(seen)


def run_now(schedule: Schedule) -> Fire:
    """Makes the schedule's task now, whether it is paused and whatever still runs. Raises Schedule.DoesNotExist."""
    with transaction.atomic():
        return _start(locked(schedule.pk), clock(), is_manual=True)


def pause(schedule: Schedule) -> bool:
    """Lets it fire no more until it is resumed. False if it was paused before."""
    return bool(Schedule.objects.filter(pk=schedule.pk, paused_at=None).update(paused_at=clock()))


def resume(schedule: Schedule) -> bool:
    """Lets it fire again, from now on: what it has not dealt with is nobody's. False if it was not paused."""
    with transaction.atomic():
        known = Schedule.objects.select_for_update(of=("self",)).filter(pk=schedule.pk).exclude(paused_at=None).first()
        if known is None:
            return False
        known.paused_at, known.next_at = None, times.first(known, clock())
        known.save(update_fields=["paused_at", "next_at"])
        return True


def locked(pk: UUID) -> Schedule:
    """The schedule, which nobody else fires or changes until the transaction ends. Raises Schedule.DoesNotExist."""
    return Schedule.objects.select_for_update(of=("self",)).get(pk=pk)


def clock() -> datetime:
    """The database's clock, now and not when the transaction began."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        instant: datetime = cursor.fetchone()[0]
        return instant


def queued(schedule: Schedule) -> QuerySet[Fire]:
    """Its fires that wait for the end of a task."""
    return Fire.objects.filter(schedule=schedule, outcome=Fire.Outcome.QUEUED)


def forget_queue(schedule: Schedule) -> None:
    """Ends the waiting of fires that another policy than to queue them has taken over."""
    if schedule.overlap != Schedule.Overlap.QUEUE:
        queued(schedule).update(outcome=Fire.Outcome.SKIPPED, reason="they are queued no more")


def _fire_one(now: datetime | None, seen: set[UUID]) -> bool:
    """Whether there was a schedule to fire that was not ``seen`` and nobody else has under his hands.

    One that cannot be fired is logged, and holds up no other.
    """
    before = len(seen)
    try:
        with transaction.atomic():
            at = now or clock()
            free = Schedule.objects.select_for_update(skip_locked=True, of=("self",))
            free = free.filter(paused_at=None, client__is_active=True).exclude(pk__in=seen)
            schedule = free.filter(next_at__lte=at).order_by("next_at").first()
            if schedule is not None:
                seen.add(schedule.pk)
                _fire(schedule, at)
                return True
            schedule = free.filter(pk__in=_ready()).first()
            if schedule is not None:
                seen.add(schedule.pk)
                _start_queued(schedule)
            return schedule is not None
    except OUTAGES:
        raise
    except Exception:
        if len(seen) == before:
            raise
        log.exception("a schedule could not be fired: %s", seen)
        return True


def _fire(schedule: Schedule, now: datetime) -> None:
    """Deals with the instants up to now, as its policies say, and finds the next one."""
    assert schedule.next_at is not None  # noqa: S101 (it is due)
    makes_all_good = schedule.catch_up == Schedule.CatchUp.ALL
    due: deque[datetime] = deque([schedule.next_at], maxlen=None if makes_all_good else DUE_MAX)
    schedule.next_at = None
    for instant in times.following(schedule, due[0]):
        if instant > now or (makes_all_good and len(due) == DUE_MAX):
            schedule.next_at = instant
            break
        due.append(instant)
    wanted = list(due) if makes_all_good else _wanted(schedule, due, now)
    for instant in due:
        if instant in wanted:
            _fire_at(schedule, instant)
        else:
            _enter(schedule, instant, Fire.Outcome.MISSED, reason="nothing was there to fire it")
    schedule.save(update_fields=["next_at"])


def _wanted(schedule: Schedule, due: Sequence[datetime], now: datetime) -> list[datetime]:
    """Those of the instants that were not missed, or are made good."""
    recent = [instant for instant in due if (now - instant).total_seconds() <= LATE_S]
    return recent or ([due[-1]] if schedule.catch_up == Schedule.CatchUp.LAST else [])


def _fire_at(schedule: Schedule, instant: datetime) -> None:
    """Makes the task of an instant, or does what is to be done while the one before has not ended."""
    if schedule.fires.filter(at=instant, is_manual=False).exists():
        return
    unfinished = _unfinished(schedule)
    if unfinished and schedule.overlap == Schedule.Overlap.SKIP:
        _enter(schedule, instant, Fire.Outcome.SKIPPED, reason=f"task {unfinished[0].task_id} has not ended")
    elif schedule.overlap == Schedule.Overlap.QUEUE and (unfinished or queued(schedule).exists()):
        _enter(schedule, instant, Fire.Outcome.QUEUED, reason="it waits for the one before")
    else:
        if unfinished:
            task_ids = [fire.task_id for fire in unfinished if fire.task_id is not None]
            cancelled = engine.run(engine.request_cancel, task_ids, by="its schedule")
            transaction.on_commit(partial(control.told_cancelled, cancelled))
            Fire.objects.filter(pk__in=[fire.pk for fire in unfinished]).update(is_open=False)
        _start(schedule, instant)


def _start_queued(schedule: Schedule) -> None:
    """Makes the task of the oldest instant that waits, if none is unfinished; it goes on waiting for its client."""
    oldest = queued(schedule).order_by("at").first()
    if oldest is None or _unfinished(schedule):
        return
    try:
        task_id = _make(schedule, oldest.at)
    except ResourceExhaustedError:
        return
    except A2AError as error:
        oldest.outcome, oldest.reason = Fire.Outcome.FAILED, error.message
    else:
        oldest.outcome, oldest.reason, oldest.task_id, oldest.is_open = Fire.Outcome.STARTED, "", task_id, True
    oldest.save()


def _start(schedule: Schedule, instant: datetime, *, is_manual: bool = False) -> Fire:
    """Makes the task of an instant, and enters what became of it."""
    enter = partial(_enter, schedule, instant, is_manual=is_manual)
    try:
        task_id = _make(schedule, instant, is_manual=is_manual)
    except A2AError as error:
        return enter(Fire.Outcome.FAILED, reason=error.message)
    return enter(Fire.Outcome.STARTED, task_id=task_id, is_open=True)


def _make(schedule: Schedule, instant: datetime, *, is_manual: bool = False) -> UUID:
    """The task of an instant. Raises A2AError where it is refused."""
    owner = schedule.client
    caller = Caller.of(owner)
    item = filing.filed(_item(schedule, instant, caller, is_manual=is_manual))
    with transaction.atomic():
        verb = engine.create if item.max_queued is None else engine.create_within
        (created,) = engine.run(verb, [item])
        intake.accepted(created, caller)
    transaction.on_commit(partial(_told, item, created))
    return created.task_id


def _item(schedule: Schedule, instant: datetime, caller: Caller, *, is_manual: bool) -> NewTask:
    """The task; that of an instant is the same whoever makes it."""
    seed = f"{schedule.pk}-{instant.isoformat()}"
    message = {**schedule.task["message"], "messageId": f"schedule-{'run' if is_manual else 'fire'}-{seed}"}
    body = {**schedule.task, "message": message}
    if schedule.jitter_s and not is_manual:
        delay_s = random.Random(seed).uniform(0.0, schedule.jitter_s)  # noqa: S311 (no secret)
        body["run_after"] = (instant + timedelta(seconds=delay_s)).isoformat()
    return submission(body, caller, method=METHOD)


def _told(item: NewTask, created: engine.Created) -> None:
    metrics.created([item], [created])
    bell.ring(accepted([item]))


def _enter(
    schedule: Schedule, instant: datetime, outcome: Fire.Outcome, *, is_manual: bool = False, **fields: Any
) -> Fire:
    """The entry of an instant in the ledger, which may have one already."""
    known = {"outcome": outcome, "created_at": clock(), **fields}
    return Fire.objects.get_or_create(schedule=schedule, at=instant, is_manual=is_manual, defaults=known)[0]


def _unfinished(schedule: Schedule) -> list[Fire]:
    """The fires whose tasks have not ended; forgets those that have."""
    fires = Fire.objects.filter(schedule=schedule, is_open=True)
    fires.filter(task__completed_at__isnull=False).update(is_open=False)
    return list(fires.filter(is_open=True))


def _ready() -> Any:
    """The schedules of which an instant waits and no task is unfinished."""
    unfinished = Fire.objects.filter(is_open=True, task__completed_at__isnull=True).values("schedule_id")
    waiting = Fire.objects.filter(outcome=Fire.Outcome.QUEUED).values("schedule_id")
    return waiting.exclude(schedule_id__in=unfinished)
