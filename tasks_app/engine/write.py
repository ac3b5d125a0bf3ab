"""write: what a running attempt puts on record, and its end; every row fenced by the attempt's id (D5).

One statement serves progress, messages, artifacts and the finish, so that a finish carries what was still unwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat

from tasks_app.engine.core import Statement, Steps
from tasks_app.models.attempt import Outcome
from tasks_app.status import TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Progress (0.0–1.0), a message, or both. ``message`` is an A2A Message as protobuf bytes."""

    kind: str = "progress"
    progress: float | None = None
    message: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One part's content; ``kind`` is text, data or raw."""

    kind: str
    content: bytes
    media_type: str
    filename: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    """An artifact as the handler made it; ``event`` is its TaskArtifactUpdateEvent without parts."""

    artifact_id: str
    chunks: tuple[Chunk, ...]
    event: bytes
    name: str = ""
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid_utils.compat.uuid7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of an attempt: the task's next state, and how the attempt itself ended."""

    status: TaskStatus
    outcome: Outcome
    error: dict[str, str] | None = None
    message: bytes | None = None
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Everything one attempt has to say now, in order; ``finish`` ends it. ``progress`` is where it stood before."""

    task_id: UUID
    attempt_id: UUID
    progress: float = 0.0
    records: tuple[Note | ArtifactRecord, ...] = ()
    finish: Finish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Whether the write was accepted; if not, the attempt has lost its lease and must stop. ``generation`` is the
    task's newest after it."""

    accepted: bool
    generation: int = 0
    lane: str = ""
    at: datetime | None = None


# `fenced` is the guard: its WHERE looks only at the locked row, so it is right after any wait.
WRITE = """
WITH item AS (
    SELECT * FROM unnest(
        %(task_id)s::uuid[], %(attempt_id)s::uuid[], %(count)s::int[], %(progress)s::float8[], %(status)s::text[],
        %(message)s::bytea[], %(error)s::jsonb[], %(outcome)s::text[], %(traceback)s::text[]
    ) AS item(task_id, attempt_id, count, progress, status, message, error, outcome, traceback)
), fenced AS (
    UPDATE tasks_app_task task
    SET generation = task.generation + item.count, updated_at = now(),
        progress = CASE WHEN item.status = 'completed' THEN 1 ELSE GREATEST(task.progress, item.progress) END,
        status = COALESCE(item.status, task.status),
        status_message = COALESCE(item.message, task.status_message),
        error = COALESCE(item.error, task.error),
        epoch = task.epoch + CASE WHEN item.status IS NULL THEN 0 ELSE 1 END,
        lease_id = CASE WHEN item.status IS NULL THEN task.lease_id END,
        timeout_at = CASE WHEN item.status IS NULL THEN task.timeout_at END,
        completed_at = CASE WHEN item.status IN ('completed', 'failed', 'cancelled', 'rejected') THEN now() END
    FROM item
    WHERE task.id = item.task_id AND task.lease_id = item.attempt_id
    RETURNING task.id, item.attempt_id, task.generation, task.generation - item.count AS base, task.attempt, task.lane,
              item.status, item.outcome, item.error, item.traceback
), ended AS (
    UPDATE tasks_app_taskattempt attempt
    SET ended_at = now(), released_at = now(), outcome = fenced.outcome, error = fenced.error,
        traceback = fenced.traceback
    FROM fenced WHERE attempt.id = fenced.attempt_id AND fenced.status IS NOT NULL
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, payload, error, attempt, created_at)
    SELECT fenced.id, fenced.base + e.nth, e.kind, e.status, e.progress, e.payload, e.error, fenced.attempt, now()
    FROM unnest(%(e_attempt)s::uuid[], %(e_nth)s::int[], %(e_kind)s::text[], %(e_status)s::text[],
                %(e_progress)s::float8[], %(e_payload)s::bytea[], %(e_error)s::jsonb[])
         AS e(attempt_id, nth, kind, status, progress, payload, error)
    JOIN fenced USING (attempt_id)
), artifact AS (
    INSERT INTO artifacts_app_artifact AS artifact
        (id, task_id, artifact_id, name, description, type, size_bytes, sha256, metadata, generation, created_at)
    SELECT a.id, fenced.id, a.artifact_id, a.name, a.description, a.type, a.size_bytes, a.sha256, a.metadata,
           fenced.base + a.nth, now()
    FROM unnest(%(a_attempt)s::uuid[], %(a_nth)s::int[], %(a_id)s::uuid[], %(a_artifact_id)s::text[],
                %(a_name)s::text[], %(a_description)s::text[], %(a_type)s::text[], %(a_size)s::bigint[],
                %(a_sha256)s::bytea[], %(a_metadata)s::jsonb[])
         AS a(attempt_id, nth, id, artifact_id, name, description, type, size_bytes, sha256, metadata)
    JOIN fenced USING (attempt_id)
    ON CONFLICT (task_id, artifact_id) DO UPDATE
    SET name = EXCLUDED.name, description = EXCLUDED.description, type = EXCLUDED.type,
        size_bytes = EXCLUDED.size_bytes, sha256 = EXCLUDED.sha256, metadata = EXCLUDED.metadata,
        generation = EXCLUDED.generation, created_at = EXCLUDED.created_at
    RETURNING artifact.id, artifact.task_id, artifact.generation
), chunk AS (
    INSERT INTO artifacts_app_artifactchunk
        (task_id, generation, position, artifact_id, kind, media_type, filename, content)
    SELECT artifact.task_id, artifact.generation, c.position, artifact.id, c.kind, c.media_type, c.filename, c.content
    FROM unnest(%(c_attempt)s::uuid[], %(c_nth)s::int[], %(c_position)s::int[], %(c_kind)s::text[],
                %(c_media_type)s::text[], %(c_filename)s::text[], %(c_content)s::bytea[])
         AS c(attempt_id, nth, position, kind, media_type, filename, content)
    JOIN fenced USING (attempt_id)
    JOIN artifact ON artifact.task_id = fenced.id AND artifact.generation = fenced.base + c.nth
)
SELECT attempt_id, generation, lane, now() FROM fenced
"""

RELEASE = """
UPDATE tasks_app_taskattempt SET released_at = now()
WHERE id = ANY(%(attempt_id)s::uuid[]) AND released_at IS NULL AND ended_at IS NOT NULL
"""


def write(items: Sequence[Write]) -> Steps[list[Written]]:
    """Puts on record what each attempt says, at most one item per attempt in a list; a :class:`Written` for each.

    A finish that is refused releases its attempt's slot: its handler has stopped, whoever ended it before.
    """
    rows = yield Statement(WRITE, _bind(items))
    done = {row[0]: Written(accepted=True, generation=row[1], lane=row[2], at=row[3]) for row in rows}
    stopped = [item.attempt_id for item in items if item.finish and item.attempt_id not in done]
    if stopped:
        yield from release(stopped)
    return [done.get(item.attempt_id, Written(accepted=False)) for item in items]


def release(attempt_ids: Sequence[UUID]) -> Steps[None]:
    """Frees the slots of attempts that somebody else ended, now that their handlers have stopped."""
    yield Statement(RELEASE, {"attempt_id": list(attempt_ids)})


_ITEM = "task_id attempt_id count progress status message error outcome traceback"
_EVENT = "e_attempt e_nth e_kind e_status e_progress e_payload e_error"
_ARTIFACT = "a_attempt a_nth a_id a_artifact_id a_name a_description a_type a_size a_sha256 a_metadata"
_CHUNK = "c_attempt c_nth c_position c_kind c_media_type c_filename c_content"
_NAMES = f"{_ITEM} {_EVENT} {_ARTIFACT} {_CHUNK}".split()


def _bind(items: Sequence[Write]) -> dict[str, list[Any]]:
    bound: dict[str, list[Any]] = {name: [] for name in _NAMES}
    for item in items:
        progress, message = item.progress, None
        for nth, record in enumerate(item.records, 1):
            if isinstance(record, ArtifactRecord):
                _bind_artifact(bound, item.attempt_id, nth, record)
                _bind_event(bound, item.attempt_id, nth, "artifact", "running", progress, record.event, None)
            else:
                progress = max(progress, record.progress or 0.0)
                message = record.message or message
                _bind_event(bound, item.attempt_id, nth, record.kind, "running", progress, record.message, None)
        _bind_item(bound, item, progress, message)
    return bound


def _bind_item(bound: dict[str, list[Any]], item: Write, progress: float, message: bytes | None) -> None:
    finish, count = item.finish, len(item.records)
    error = json.dumps(finish.error) if finish and finish.error else None
    if finish:
        count += 1
        message = finish.message
        last = 1.0 if finish.status == TaskStatus.COMPLETED else progress
        _bind_event(bound, item.attempt_id, count, "status", finish.status.value, last, finish.message, error)
    values = (
        item.task_id,
        item.attempt_id,
        count,
        progress,
        finish.status.value if finish else None,
        message,
        error,
        finish.outcome.value if finish else None,
        finish.traceback if finish else None,
    )
    _append(bound, _ITEM, values)


def _bind_event(bound: dict[str, list[Any]], *values: Any) -> None:
    _append(bound, _EVENT, values)


def _bind_artifact(bound: dict[str, list[Any]], attempt_id: UUID, nth: int, record: ArtifactRecord) -> None:
    digest, size_bytes = hashlib.sha256(), 0
    for position, chunk in enumerate(record.chunks):
        digest.update(chunk.content)
        size_bytes += len(chunk.content)
        values: tuple[Any, ...] = (
            attempt_id,
            nth,
            position,
            chunk.kind,
            chunk.media_type,
            chunk.filename,
            chunk.content,
        )
        _append(bound, _CHUNK, values)
    media_type = record.chunks[0].media_type if record.chunks else "application/octet-stream"
    metadata = json.dumps(record.metadata)
    values = (
        attempt_id,
        nth,
        record.id,
        record.artifact_id,
        record.name,
        record.description,
        media_type,
        size_bytes,
        digest.digest(),
        metadata,
    )
    _append(bound, _ARTIFACT, values)


def _append(bound: dict[str, list[Any]], names: str, values: tuple[Any, ...]) -> None:
    for name, value in zip(names.split(), values, strict=True):
        bound[name].append(value)
