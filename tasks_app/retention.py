"""How long ended tasks are kept, and the sweep that deletes the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from artifacts_app import uploads
from tasks_app import agents, engine
from tasks_app.engine.prune import KeepS
from tasks_app.models import Fire
from tasks_app.status import TERMINAL, TaskStatus

DAY_S = 86_400.0
#: A run deletes at most this many times a batch, so that it never holds its worker for long.
BATCHES_MAX = 20
BATCH = 500


def keep_s() -> dict[TaskStatus, float]:
    """How long tasks of each terminal state are kept after their end, in seconds; one not named for ever."""
    days = dict.fromkeys(TERMINAL, settings.A2A_KEEP_DAYS) | {TaskStatus.FAILED: settings.A2A_KEEP_FAILED_DAYS}
    return {status: count * DAY_S for status, count in days.items() if count > 0}


def own_keep_s() -> dict[str, dict[TaskStatus, float | None]]:
    """The same for agents that say otherwise, of what they say; None for ever."""
    found: dict[str, dict[TaskStatus, float | None]] = {}
    for name, spec in agents.registered().items():
        said = dict.fromkeys(TERMINAL, spec.keep_days) | {TaskStatus.FAILED: spec.keep_failed_days}
        own = {status: days * DAY_S or None for status, days in said.items() if days is not None}
        if own:
            found[name] = own
    return found


def prune() -> int:
    """Deletes what is past its time, as much as one run may; how many tasks went. What is left goes next time."""
    _forget_fires()
    uploads.forget(timedelta(days=settings.A2A_KEEP_UPLOADS_DAYS))
    kept, own, gone = keep_s(), own_keep_s(), 0
    write = _archive()
    for _ in range(BATCHES_MAX if kept or own else 0):
        pruned = _prune(kept, own, write)
        gone += pruned
        if pruned < BATCH:
            break
    return gone


def _prune(kept: KeepS, own: Mapping[str, KeepS], write: Callable[[list[UUID]], None]) -> int:
    """Writes what is past its time to the archive, and deletes it, or neither; how many tasks."""
    with transaction.atomic():
        task_ids = engine.run(engine.prunable, kept, own=own, limit=BATCH)
        if task_ids:
            write(task_ids)
        engine.run(engine.delete, task_ids)
    return len(task_ids)


def _archive() -> Callable[[list[UUID]], None]:
    """What writes tasks where the settings say, if they do."""
    if not settings.A2A_ARCHIVE_TO:
        return lambda task_ids: None
    from tasks_app import archive  # only worker-system writes: the others do without its libraries

    sink = archive.sink(settings.A2A_ARCHIVE_TO)
    return lambda task_ids: sink.write(archive.records(task_ids))


def _forget_fires() -> None:
    """Deletes what made no task and is as old as tasks that completed are kept."""
    if settings.A2A_KEEP_DAYS > 0:
        old = Fire.objects.filter(task=None, at__lt=timezone.now() - timedelta(days=settings.A2A_KEEP_DAYS))
        old = old.exclude(outcome=Fire.Outcome.QUEUED)
        Fire.objects.filter(pk__in=list(old.values_list("pk", flat=True)[: BATCH * BATCHES_MAX])).delete()
