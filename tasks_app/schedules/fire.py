"""Makes the tasks of schedules that are due: each instant once, however many do so at the same time.

Everything of a schedule happens under the lock of its row, by the database's clock: what its ``next_at`` has passed is
dealt with, entered in the ledger of fires, and ``next_at`` moved on. Beat only says when to look.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction

from tasks_app import control, engine, intake, metrics
from tasks_app.a2a.errors import A2AError
from tasks_app.authentication import Caller
from tasks_app.engine import NewTask
from tasks_app.models import Fire, Schedule
from tasks_app.schedules import times
from tasks_app.submissions import submission
from tasks_app.wakeups import accepted, bell

#: An instant that passed no longer ago was not missed, in seconds.
LATE_S = 60.0
#: As many instants of a schedule are dealt with at once; the others next time.
DUE_MAX = 100
#: As many schedules a sweep fires.
SCHEDULES_MAX = 500
METHOD = "schedules.fire"


def fire_due(*, now: datetime | None = None) -> int:
    """Fires every schedule that is due, and what waits for the end of a task that has ended; how many schedules.

    ``now`` is the database's clock unless it is said.
    """
    fired = 0
    while fired < SCHEDULES_MAX and _fire_one(now):
        fired += 1
    return fired


def run_now(schedule: Schedule) -> Fire:
    """Makes the schedule's task now, whether it is paused and whatever still runs."""
    with transaction.atomic():
        locked = Schedule.objects.select_for_update(of=("self",)).get(pk=schedule.pk)
        return _start(locked, clock(), is_manual=True)


def pause(schedule: Schedule) -> bool:
    """Lets it fire no more until it is resumed. False if it was paused before."""
    with transaction.atomic():
        return bool(Schedule.objects.filter(pk=schedule.pk, paused_at=None).update(paused_at=clock()))


def resume(schedule: Schedule) -> bool:
    """Lets it fire again, from now on: the instants of its pause are nobody's. False if it was not paused."""
    with transaction.atomic():
        locked = Schedule.objects.select_for_update(of=("self",)).filter(pk=schedule.pk).first()
        if locked is None or locked.paused_at is None:
            return False
        locked.paused_at, locked.next_at = None, times.first(locked, clock())
        locked.save(update_fields=["paused_at", "next_at"])
        return True


def clock() -> datetime:
    """The database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        instant: datetime = cursor.fetchone()[0]
        return instant


def _fire_one(now: datetime | None) -> bool:
    """Whether there was a schedule to fire that nobody else has under his hands."""
    with transaction.atomic():
        at = now or clock()
        free = Schedule.objects.select_for_update(skip_locked=True, of=("self",)).filter(paused_at=None)
        due = free.filter(next_at__lte=at).order_by("next_at").first()
        if due is not None:
            _fire(due, at)
            return True
        waiting = free.filter(pk__in=_ready()).first()
        if waiting is not None:
            _start_queued(waiting)
        return waiting is not None


def _fire(schedule: Schedule, now: datetime) -> None:
    """Deals with the instants up to now, as its policies say, and finds the next one."""
    assert schedule.next_at is not None  # noqa: S101 (it is due)
    makes_all_good = schedule.catch_up == Schedule.CatchUp.ALL
    due: deque[datetime] = deque([schedule.next_at], maxlen=None if makes_all_good else DUE_MAX)
    following: datetime | None = None
    for instant in times.following(schedule, schedule.next_at):
        following = instant
        if instant > now or (makes_all_good and len(due) == DUE_MAX):
            break
        due.append(instant)
    else:
        following = None
    *missed, last = due
    is_late = (now - last).total_seconds() > LATE_S
    if makes_all_good:
        wanted: Iterable[datetime] = due
    elif is_late and schedule.catch_up == Schedule.CatchUp.NONE:
        missed, wanted = list(due), ()
    else:
        wanted = (last,)
    if not makes_all_good:
        for instant in missed:
            _enter(schedule, instant, Fire.Outcome.MISSED, reason="nothing was there to fire it")
    for instant in wanted:
        _fire_at(schedule, instant)
    schedule.next_at = following
    schedule.save(update_fields=["next_at"])


def _fire_at(schedule: Schedule, instant: datetime) -> None:
    """Makes the task of an instant, or does what is to be done while the one before has not ended."""
    unfinished = _unfinished(schedule)
    if unfinished and schedule.overlap == Schedule.Overlap.SKIP:
        _enter(schedule, instant, Fire.Outcome.SKIPPED, reason=f"task {unfinished[0].task_id} has not ended")
    elif schedule.overlap == Schedule.Overlap.QUEUE and (unfinished or _queued(schedule).exists()):
        _enter(schedule, instant, Fire.Outcome.QUEUED, reason="it waits for the one before")
    else:
        if unfinished:
            task_ids = [fire.task_id for fire in unfinished if fire.task_id is not None]
            cancelled = engine.run(engine.request_cancel, task_ids, by="its schedule")
            transaction.on_commit(partial(control.told_cancelled, cancelled))
            Fire.objects.filter(pk__in=[fire.pk for fire in unfinished]).update(is_open=False)
        _start(schedule, instant)


def _start_queued(schedule: Schedule) -> None:
    """Makes the task of the oldest instant that waits, if none is unfinished any more."""
    oldest = _queued(schedule).order_by("at").first()
    if oldest is None or _unfinished(schedule):
        return
    oldest.delete()
    _start(schedule, oldest.at)


def _start(schedule: Schedule, instant: datetime, *, is_manual: bool = False) -> Fire:
    """Makes the task of an instant, and enters what became of it."""
    enter = partial(_enter, schedule, instant, is_manual=is_manual)
    owner = schedule.client
    caller = Caller(owner.pk, owner.name, owner.submit_rate_per_s, owner.max_queued)
    try:
        item = _item(schedule, instant, caller, is_manual=is_manual)
        with transaction.atomic():
            verb = engine.create if item.max_queued is None else engine.create_within
            (created,) = engine.run(verb, [item])
            intake.accepted(created, caller)
    except A2AError as error:
        return enter(Fire.Outcome.FAILED, reason=error.message)
    transaction.on_commit(partial(_told, item, created))
    return enter(Fire.Outcome.STARTED, task_id=created.task_id, is_open=True)


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


def _enter(schedule: Schedule, instant: datetime, outcome: Fire.Outcome, **fields: Any) -> Fire:
    return Fire.objects.create(schedule=schedule, at=instant, outcome=outcome, created_at=clock(), **fields)


def _unfinished(schedule: Schedule) -> list[Fire]:
    """The fires whose tasks have not ended; forgets those that have."""
    fires = Fire.objects.filter(schedule=schedule, is_open=True)
    fires.filter(task__completed_at__isnull=False).update(is_open=False)
    return list(fires.filter(is_open=True))


def _queued(schedule: Schedule) -> Any:
    return Fire.objects.filter(schedule=schedule, outcome=Fire.Outcome.QUEUED)


def _ready() -> Any:
    """The schedules of which an instant waits and no task is unfinished."""
    unfinished = Fire.objects.filter(is_open=True, task__completed_at__isnull=True).values("schedule_id")
    waiting = Fire.objects.filter(outcome=Fire.Outcome.QUEUED).values("schedule_id")
    return waiting.exclude(schedule_id__in=unfinished)
