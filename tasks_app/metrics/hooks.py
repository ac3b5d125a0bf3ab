"""What the processes call where a verb of the engine returned success: each counts what it made true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from tasks_app.engine import Cancelled, Claim, Created, Finish, Moved, Submitted, Written
from tasks_app.metrics.families import CREATED, DURATION, ENDS, QUEUED
from tasks_app.metrics.tally import Change, tally
from tasks_app.models.attempt import Outcome
from tasks_app.status import TaskStatus


def created(items: Sequence[Submitted], results: Sequence[Created]) -> None:
    """After create. An item whose own id stands for it was accepted now, though its first answer may have been lost."""
    here = tally()
    here.add(
        here.counted(CREATED, item.agent, item.priority, item.lane)
        for item, result in zip(items, results, strict=True)
        if result.task_id == item.id and not result.refused
    )


def claimed(claims: Iterable[Claim | None]) -> None:
    """After claim: how long each task that starts for the first time has waited since it might."""
    here = tally()
    for claim in claims:
        if claim is not None and claim.attempt == 1:
            waited_s = (claim.started_at - claim.run_after).total_seconds()
            here.add(here.observed(QUEUED, claim.agent, claim.priority, claim.lane, waited_s))


def finished(finish: Finish | None, written: Written) -> None:
    """After a write that was accepted; counts nothing unless it was a finish."""
    if finish is not None:
        tally().add(_ended(written, written.status, finish.outcome, written.at))


def moved(tasks: Iterable[Moved]) -> None:
    """After lose, rescue or expire."""
    tally().add(change for task in tasks for change in _ended(task, task.status, task.outcome, task.at))


def cancelled(tasks: Iterable[Cancelled]) -> None:
    """After request_cancel."""
    for task in tasks:
        outcome = Outcome.CANCELLED if task.worker else None
        tally().add(_ended(task, TaskStatus.CANCELLED, outcome, task.at))


def _ended(
    task: Written | Moved | Cancelled, status: TaskStatus, outcome: Outcome | None, at: datetime | None
) -> Iterator[Change]:
    """An attempt's end, if one ended, and the task's, if it is in its last state."""
    here = tally()
    if outcome is not None:
        yield here.columns.of_attempt(task.agent, task.lane, outcome), 1.0
    if status in ENDS:
        yield here.counted(ENDS[status], task.agent, task.priority, task.lane)
        if task.started_at is not None and at is not None:
            seconds = (at - task.started_at).total_seconds()
            yield from here.observed(DURATION, task.agent, task.priority, task.lane, seconds)
