"""The runs of one task for looking at: its attempts, how they ended and what they used, and its checkpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import TextField
from django.db.models.functions import Cast, Left
from django.utils.safestring import SafeString

from tasks_app.admin import looks, previews
from tasks_app.models import Checkpoint, Task, TaskAttempt

#: As many of the newest are shown.
ATTEMPTS_MAX = 50
CHECKPOINTS_MAX = 50
#: As many characters of a traceback are shown, from its end, where the reason stands.
TRACEBACK_MAX_CHARS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLook:
    """One attempt; ``used`` is what its worker measured, by name."""

    attempt: TaskAttempt
    start: SafeString | str
    end: SafeString | str
    duration: str
    outcome: SafeString
    lease: SafeString | str
    used: list[tuple[str, str]]
    traceback: str
    #: Ended, but its handler has not stopped yet: the slot is still taken.
    stopping: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLook:
    name: str
    attempt: int
    at: SafeString | str
    text: str
    cut: bool


def attempts(task: Task, *, now: datetime) -> list[AttemptLook]:
    """The attempts, oldest first."""
    newest = task.attempts.order_by("-epoch")[:ATTEMPTS_MAX]
    return [
        AttemptLook(
            attempt=attempt,
            start=looks.clock(attempt.claimed_at),
            end=looks.clock(attempt.ended_at),
            duration=looks.span(looks.between(attempt.claimed_at, attempt.ended_at or now)),
            outcome=looks.outcome(attempt.outcome),
            lease=looks.when(attempt.lease_expires_at, now=now),
            used=_used(attempt),
            traceback=attempt.traceback[-TRACEBACK_MAX_CHARS:],
            stopping=attempt.ended_at is not None and attempt.released_at is None,
        )
        for attempt in reversed(newest)
    ]


def checkpoints(task: Task, *, now: datetime) -> list[CheckpointLook]:
    """What the next attempt would find, the newest first; of each no more is read than is shown."""
    text = Left(Cast("data", TextField()), previews.SHOWN_MAX_CHARS + 1)
    found = Checkpoint.objects.filter(task=task).defer("data").annotate(text=text).order_by("-generation")
    return [_checkpoint(row, now) for row in found[:CHECKPOINTS_MAX]]


def _used(attempt: TaskAttempt) -> list[tuple[str, str]]:
    measured = (
        ("peak memory", None if attempt.peak_rss_bytes is None else looks.size(attempt.peak_rss_bytes)),
        ("CPU", None if attempt.cpu_s is None else looks.span(attempt.cpu_s)),
        ("scratch disk", None if attempt.disk_bytes is None else looks.size(attempt.disk_bytes)),
    )
    return [(name, text) for name, text in measured if text is not None]


def _checkpoint(row: Any, now: datetime) -> CheckpointLook:
    text, cut = previews.bounded(row.text)
    return CheckpointLook(
        name=row.name,
        attempt=row.attempt,
        at=looks.when(row.created_at, now=now),
        text=text if cut else previews.pretty(json.loads(text)),
        cut=cut,
    )
