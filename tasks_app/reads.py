"""Reads that the doors and streams share, as verbs: they run on Django's connection or on an async one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from artifacts_app.models import CURRENT
from tasks_app.engine.claim import decoded
from tasks_app.engine.core import Statement, Steps
from tasks_app.status import Priority, TaskStatus

#: The most events one read returns, and the most bytes of messages and artifacts that they carry; one event always.
EVENTS_MAX = 200
CONTENT_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """One part of an artifact."""

    kind: str
    media_type: str
    filename: str
    content: bytes
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactView:
    """An artifact with its content."""

    artifact_id: str
    name: str
    description: str
    metadata: dict[str, Any]
    parts: tuple[PartRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One event; ``parts`` is what an artifact event carried, ``started`` whether a run had begun by then.

    ``more``: there were events after it when it was read.
    """

    task_id: UUID
    generation: int
    kind: str
    status: TaskStatus
    progress: float
    payload: bytes | None
    error: dict[str, str] | None
    attempt: int
    created_at: datetime
    parts: tuple[PartRecord, ...] = ()
    started: bool = True
    more: bool = False

    @property
    def is_follow_up(self) -> bool:
        """Whether it is the client's further message, which is no status message of the agent's."""
        return self.kind == "message" and self.attempt == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task as the wire shows it. ``messages`` are protobuf Messages, oldest first."""

    id: UUID
    context_id: str
    agent: str
    priority: Priority
    status: TaskStatus
    progress: float
    attempt: int
    generation: int
    status_message: bytes | None
    error: dict[str, str] | None
    status_at: datetime
    metadata: dict[str, Any]
    messages: tuple[bytes, ...] = ()
    artifacts: tuple[ArtifactView, ...] = ()


TASK = """
SELECT task.id, task.context_id, task.agent, task.priority, task.status, task.progress, task.attempt, task.generation,
       task.status_message, task.error, task.status_at, request.metadata, request.message
FROM tasks_app_task task JOIN tasks_app_taskrequest request ON request.task_id = task.id
WHERE task.id = %(task_id)s AND task.client_id = %(client_id)s AND (%(agent)s::text IS NULL OR task.agent = %(agent)s)
"""
SAID = """
SELECT payload FROM tasks_app_taskevent
WHERE task_id = %(task_id)s AND generation <= %(generation)s AND payload IS NOT NULL
  AND kind NOT IN ('artifact', 'checkpoint')
ORDER BY generation
"""
ARTIFACTS = f"""
SELECT artifact.artifact_id, artifact.name, artifact.description, artifact.metadata,
       chunk.kind, chunk.media_type, chunk.filename, chunk.content, chunk.metadata
FROM artifacts_app_artifact artifact
LEFT JOIN artifacts_app_artifactchunk chunk ON {CURRENT}
WHERE artifact.task_id = %(task_id)s
ORDER BY COALESCE(artifact.first_generation, artifact.generation), chunk.generation, chunk.position
"""  # noqa: S608 (only constants are put in)
# The lengths of contents are known without reading them. Pending is not «waits for another attempt» where a client says
# more before the first run has begun.
EVENTS = """
WITH next AS (
    SELECT * FROM tasks_app_taskevent WHERE task_id = %(task_id)s AND generation > %(after)s
    ORDER BY generation LIMIT %(limit)s + 1
), sized AS (
    SELECT *, lead(generation) OVER (ORDER BY generation) IS NOT NULL AS more,
           row_number() OVER (ORDER BY generation) AS nth,
           sum(COALESCE(octet_length(payload), 0) + CASE kind WHEN 'artifact' THEN (
               SELECT COALESCE(sum(octet_length(content)), 0) FROM artifacts_app_artifactchunk chunk
               WHERE chunk.task_id = next.task_id AND chunk.generation = next.generation) ELSE 0 END)
               OVER (ORDER BY generation) AS size_bytes
    FROM next
)
SELECT task_id, generation, kind, status, progress, payload, error, attempt, created_at,
       CASE WHEN kind = 'message' AND attempt = 0 AND status = 'pending' THEN EXISTS (
           SELECT FROM tasks_app_taskevent before
           WHERE before.task_id = sized.task_id AND before.generation < sized.generation AND before.attempt > 0)
       ELSE generation > 1 END, more
FROM sized
WHERE nth <= %(limit)s AND (nth = 1 OR size_bytes <= %(size_bytes)s)
ORDER BY generation
"""
CHUNKS = """
SELECT generation, kind, media_type, filename, content, metadata FROM artifacts_app_artifactchunk
WHERE task_id = %(task_id)s AND generation = ANY(%(generation)s::int[])
ORDER BY generation, position
"""
OWNED = "SELECT id FROM tasks_app_task WHERE id = ANY(%(task_id)s::uuid[]) AND client_id = %(client_id)s"
LATEST = "SELECT id, generation FROM tasks_app_task WHERE id = ANY(%(task_id)s::uuid[])"


def task(
    task_id: UUID, *, client_id: int, agent: str | None = None, history: bool = True, artifacts: bool = True
) -> Steps[TaskRecord | None]:
    """The task, if this client owns it (and this agent runs it, where one is named); else None."""
    params = {"task_id": task_id, "client_id": client_id, "agent": agent}
    rows = yield Statement(TASK, params)
    if not rows:
        return None
    row = rows[0]
    messages: tuple[bytes, ...] = ()
    if history:
        said = yield Statement(SAID, {"task_id": task_id, "generation": row[7]})
        messages = (bytes(row[12]), *(bytes(payload) for (payload,) in said))
    views: tuple[ArtifactView, ...] = ()
    if artifacts:
        views = _artifacts((yield Statement(ARTIFACTS, {"task_id": task_id})))
    return TaskRecord(
        id=row[0],
        context_id=row[1],
        agent=row[2],
        priority=Priority(row[3]),
        status=TaskStatus(row[4]),
        progress=row[5],
        attempt=row[6],
        generation=row[7],
        status_message=None if row[8] is None else bytes(row[8]),
        error=decoded(row[9]),
        status_at=row[10],
        metadata=decoded(row[11]),
        messages=messages,
        artifacts=views,
    )


def events(task_id: UUID, *, after: int, limit: int = EVENTS_MAX) -> Steps[list[EventRecord]]:
    """The task's events past a generation, in order, with what their artifacts carried.

    As many as fit into ``limit`` and ``CONTENT_MAX_BYTES``, but one if there is any; the last says if there are more.
    """
    params = {"task_id": task_id, "after": after, "limit": limit, "size_bytes": CONTENT_MAX_BYTES}
    rows = yield Statement(EVENTS, params)
    carrying = [row[1] for row in rows if row[2] == "artifact"]
    parts: dict[int, list[PartRecord]] = {}
    if carrying:
        for chunk in (yield Statement(CHUNKS, {"task_id": task_id, "generation": carrying})):
            parts.setdefault(chunk[0], []).append(_part(chunk[1:]))
    return [
        EventRecord(
            task_id=row[0],
            generation=row[1],
            kind=row[2],
            status=TaskStatus(row[3]),
            progress=row[4],
            payload=None if row[5] is None else bytes(row[5]),
            error=decoded(row[6]),
            attempt=row[7],
            created_at=row[8],
            parts=tuple(parts.get(row[1], ())),
            started=row[9],
            more=row[10],
        )
        for row in rows
    ]


def owned(task_ids: Sequence[UUID], *, client_id: int) -> Steps[set[UUID]]:
    """Which of these tasks are this client's."""
    return {row[0] for row in (yield Statement(OWNED, {"task_id": list(task_ids), "client_id": client_id}))}


def latest(task_ids: Sequence[UUID]) -> Steps[dict[UUID, int]]:
    """The newest generation of each of these tasks."""
    return dict((yield Statement(LATEST, {"task_id": list(task_ids)})))


def _artifacts(rows: list[tuple[Any, ...]]) -> tuple[ArtifactView, ...]:
    heads: dict[str, tuple[Any, ...]] = {}
    parts: dict[str, list[PartRecord]] = {}
    for row in rows:
        heads[row[0]] = row[:4]
        if row[4] is not None:
            parts.setdefault(row[0], []).append(_part(row[4:]))
    return tuple(
        ArtifactView(
            artifact_id=artifact_id,
            name=head[1],
            description=head[2],
            metadata=decoded(head[3]),
            parts=tuple(parts.get(artifact_id, ())),
        )
        for artifact_id, head in heads.items()
    )


def _part(row: tuple[Any, ...]) -> PartRecord:
    return PartRecord(kind=row[0], media_type=row[1], filename=row[2], content=bytes(row[3]), metadata=decoded(row[4]))
