"""What the page of a task shows, read in a handful of bounded queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from a2a.types import TaskArtifactUpdateEvent
from django.db.models import Q
from django.utils import timezone
from django.utils.safestring import SafeString
from google.protobuf.message import DecodeError

from tasks_app.admin import conversation, lifecycle, looks, previews, runs, waits
from tasks_app.models import EventKind, Task
from tasks_app.status import TaskStatus

#: As many of the newest are shown; the page says so where there are more.
EVENTS_MAX = 200
CHANGES_MAX = 500
ICONS = {"progress": "trending_up", "artifact": "draft", "message": "chat", "checkpoint": "flag"}
RERUNS_MAX = 20
ARTIFACTS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event, as the timeline shows it."""

    generation: int
    kind: str
    icon: str
    status: str
    label: SafeString
    percent: int
    text: str
    at: SafeString | str
    attempt: int


def context(task: Task, *, with_artifacts: bool) -> dict[str, Any]:
    """The template's variables."""
    now = timezone.now()
    entries = _entries(task)
    return {
        "task": task,
        "open": not looks.ended(task.status),
        "latest": next((entry.text for entry in reversed(entries) if entry.kind == EventKind.PROGRESS), ""),
        "waiting_for": waits.reason(task, now=now),
        "state": looks.state(task.status),
        "priority": looks.priority(task.priority),
        "bar": looks.bar(task.progress, task.status),
        "times": _times(task, now),
        "problem": _problem(task, entries),
        "diagram": lifecycle.diagram(_changes(task), now=now),
        "conversation": conversation.conversation(task),
        "attempts": runs.attempts(task, now=now),
        "checkpoints": runs.checkpoints(task, now=now),
        "reruns": _reruns(task),
        "entries": entries,
        "earlier": max(task.generation - len(entries), 0),
        "artifacts": previews.shown(list(task.artifacts[:ARTIFACTS_MAX])) if with_artifacts else [],
        "with_artifacts": with_artifacts,
        "parameters": _json(task.parameters),
        "metadata": _json(task.metadata),
        "resources": _json(task.resources),
    }


def _times(task: Task, now: datetime) -> list[tuple[str, Any]]:
    waited_s = looks.between(task.created_at, task.started_at or task.completed_at or now)
    ran_s = looks.between(task.started_at, task.completed_at or now)
    times = [
        ("created", looks.when(task.created_at, now=now)),
        ("waited", looks.span(waited_s)),
        ("started", looks.when(task.started_at, now=now)),
        ("ran" if task.completed_at else "has run", looks.span(ran_s)),
        ("ended", looks.when(task.completed_at, now=now)),
        ("attempts spent", f"{task.spent} of {task.max_attempts}"),
        ("timeout", looks.span(task.timeout_s)),
    ]
    return times + _deadlines(task, now)


def _deadlines(task: Task, now: datetime) -> list[tuple[str, Any]]:
    """Those that run now, the nearest meaning first."""
    standing = [
        ("times out", task.timeout_at),
        ("must start by", task.start_deadline_at if task.status == TaskStatus.PENDING else None),
        ("answer due by", task.input_expires_at),
    ]
    return [(name, looks.when(at, now=now)) for name, at in standing if at is not None]


def _reruns(task: Task) -> list[tuple[UUID, SafeString]]:
    made = Task.objects.filter(rerun_of=task.id).order_by("-id").values_list("id", "status")[:RERUNS_MAX]
    return [(task_id, looks.state(status)) for task_id, status in made]


def _entries(task: Task) -> list[Entry]:
    newest = conversation.readable(task.id).order_by("-generation")[:EVENTS_MAX]
    return [
        Entry(
            generation=event.generation,
            kind=event.kind,
            icon=ICONS.get(event.kind, ""),
            status=event.status,
            label=looks.state(event.status),
            percent=looks.percentage(event.progress),
            text=_text(event),
            at=looks.since(task.created_at, event.created_at) if event.generation > 1 else looks.when(event.created_at),
            attempt=event.attempt,
        )
        for event in reversed(newest)
    ]


def _text(event: Any) -> str:
    if event.kind == EventKind.CHECKPOINT:
        return bytes(event.small_payload or b"").decode(errors="replace")
    if event.kind == EventKind.ARTIFACT:
        try:
            artifact = TaskArtifactUpdateEvent.FromString(bytes(event.small_payload or b"")).artifact
        except DecodeError:
            return ""
        return str(artifact.name or artifact.artifact_id)
    text = conversation.text_of(conversation.parsed(event.small_payload))
    if not text and event.error:
        text = _sentence(event.error)
    return text[:500]


def _changes(task: Task) -> list[lifecycle.Change]:
    """A client's message, which is an event of no attempt, changes the state of a task that waited for it."""
    telling = task.events.filter(Q(kind=EventKind.STATUS) | Q(kind=EventKind.MESSAGE, attempt=0))
    rows = telling.order_by("-generation").values_list("status", "created_at")[:CHANGES_MAX]
    states = groupby(reversed(rows), key=lambda row: row[0])
    return [lifecycle.Change(status=TaskStatus(status), at=next(same)[1]) for status, same in states]


def _problem(task: Task, entries: Sequence[Entry]) -> dict[str, str] | None:
    """Why it ended without a result: of a task that was cancelled, its last event says by whom."""
    if task.error:
        return {"code": str(task.error.get("code", "")), "message": _sentence(task.error)}
    if task.status in (TaskStatus.CANCELLED, TaskStatus.REJECTED) and entries:
        return {"code": task.status, "message": entries[-1].text or looks.words(task.status)}
    return None


def _sentence(error: Any) -> str:
    return str(error.get("message", "")) if isinstance(error, dict) else str(error)


def _json(value: Any) -> str:
    return previews.bounded(previews.pretty(value))[0] if value else ""
