"""Reads that the doors and streams share, as verbs: they run on Django's connection or on an async one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings

from artifacts_app.blobs import Stored
from artifacts_app.models import BLOB, CURRENT, SIZE, STORED
from tasks_app.addresses import content_url
from tasks_app.engine import files
from tasks_app.engine.claim import decoded
from tasks_app.engine.core import Contents, Statement, Steps
from tasks_app.models.event import IS_SAID
from tasks_app.status import Priority, TaskStatus

#: The most events one read returns, and the most bytes of messages and artifacts that they carry; one event always.
EVENTS_MAX = 200
CONTENT_MAX_BYTES = 1024 * 1024

#: A task, and the last of its generations that was seen.
Cursor = tuple[UUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """One part of an artifact."""

    kind: str
    media_type: str
    filename: str
    content: bytes
    metadata: dict[str, Any] | None = None
    #: Of its own content, also where an address stands in its place.
    size_bytes: int = 0
    #: Its content stands in a storage, and was not fetched.
    waits: bool = False


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
    #: What a binding has made of it, by name: all who follow the task share one record.
    shown: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_follow_up(self) -> bool:
        """Whether it is the client's further message, which is no status message of the agent's."""
        return self.kind == "message" and self.attempt == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A task by the message that made it, which is here as protobuf; ``consumed_seq`` is that of the row."""

    task_id: UUID
    status: TaskStatus
    consumed_seq: int
    message: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task as the wire shows it. ``messages`` are protobuf Messages, oldest first; ``request`` is the first."""

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
    request: bytes = b""
    messages: tuple[bytes, ...] = ()
    artifacts: tuple[ArtifactView, ...] = ()


class Heavy:
    """What is read in place of something whose contents stand in a storage, where nobody may wait for that."""


HEAVY = Heavy()


class Wanted(NamedTuple):
    """A task to read: whose it must be, whose agent's if one is named, and how much of it.

    ``history`` is how many of its newest messages are wanted; None for all.
    """

    task_id: UUID
    client_id: int
    agent: str | None = None
    history: int | None = None
    artifacts: bool = True


# What was said comes along, and whether there are artifacts, which most tasks that are read have none of yet.
TASKS = f"""
SELECT wanted.nth, task.id, task.context_id, task.agent, task.priority, task.status, task.progress, task.attempt,
       task.generation, task.status_message, task.error, task.status_at, request.metadata, request.message,
       CASE WHEN wanted.history IS DISTINCT FROM 0 THEN ARRAY(
           SELECT payload FROM (
               SELECT generation, payload FROM tasks_app_taskevent event
               WHERE event.task_id = task.id AND event.generation <= task.generation AND {IS_SAID}
               ORDER BY generation DESC LIMIT wanted.history) newest
           ORDER BY generation) END,
       wanted.artifacts AND EXISTS (SELECT FROM artifacts_app_artifact artifact WHERE artifact.task_id = task.id)
FROM unnest(%(task_id)s::uuid[], %(client_id)s::bigint[], %(agent)s::text[], %(history)s::int[], %(artifacts)s::bool[])
     WITH ORDINALITY AS wanted(task_id, client_id, agent, history, artifacts, nth)
JOIN tasks_app_task task ON task.id = wanted.task_id AND task.client_id = wanted.client_id
     AND (wanted.agent IS NULL OR task.agent = wanted.agent)
JOIN tasks_app_taskrequest request ON request.task_id = task.id
"""  # noqa: S608 (only constants are put in)
_PART = f"""chunk.kind, chunk.media_type, chunk.filename, chunk.metadata, chunk.artifact_id,
       chunk.content, {STORED}"""
# As they stood at a generation, so that a stream which goes on from there sees nothing twice: what was added since is
# left out, and so is an artifact that was made anew since.
ARTIFACTS = f"""
SELECT artifact.task_id, artifact.artifact_id, artifact.name, artifact.description, artifact.metadata,
       {_PART}
FROM unnest(%(task_id)s::uuid[], %(generation)s::int[]) AS seen(task_id, generation)
JOIN artifacts_app_artifact artifact
  ON artifact.task_id = seen.task_id AND COALESCE(artifact.first_generation, artifact.generation) <= seen.generation
LEFT JOIN artifacts_app_artifactchunk chunk ON {CURRENT} AND chunk.generation <= seen.generation
{BLOB}
ORDER BY COALESCE(artifact.first_generation, artifact.generation), chunk.generation, chunk.position
"""  # noqa: S608 (only constants are put in)
# The lengths of contents are known without reading them. Pending is not «waits for another attempt» where a client says
# more before the first run has begun.
EVENTS = f"""
WITH next AS (
    SELECT cursor.nth AS item, event.*
    FROM unnest(%(task_id)s::uuid[], %(after)s::int[]) WITH ORDINALITY AS cursor(task_id, after, nth), LATERAL (
        SELECT * FROM tasks_app_taskevent
        WHERE task_id = cursor.task_id AND generation > cursor.after
        ORDER BY generation LIMIT %(limit)s + 1
    ) event
), sized AS (
    SELECT *, lead(generation) OVER own IS NOT NULL AS more, row_number() OVER own AS nth,
           sum(COALESCE(octet_length(payload), 0) + CASE kind WHEN 'artifact' THEN (
               SELECT COALESCE(sum({SIZE.format(chunk="chunk")}), 0) FROM artifacts_app_artifactchunk chunk
               WHERE chunk.task_id = next.task_id AND chunk.generation = next.generation) ELSE 0 END)
               OVER own AS size_bytes
    FROM next WINDOW own AS (PARTITION BY item ORDER BY generation)
)
SELECT item, task_id, generation, kind, status, progress, payload, error, attempt, created_at,
       CASE WHEN kind = 'message' AND attempt = 0 AND status = 'pending' THEN EXISTS (
           SELECT FROM tasks_app_taskevent before
           WHERE before.task_id = sized.task_id AND before.generation < sized.generation AND before.attempt > 0)
       ELSE generation > 1 END, more
FROM sized
WHERE nth <= %(limit)s AND (nth = 1 OR size_bytes <= %(size_bytes)s)
ORDER BY item, generation
"""  # noqa: S608
CHUNKS = f"""
SELECT chunk.task_id, chunk.generation, {_PART}
FROM unnest(%(task_id)s::uuid[], %(generation)s::int[]) AS carrying(task_id, generation)
JOIN artifacts_app_artifactchunk chunk USING (task_id, generation)
{BLOB}
ORDER BY chunk.task_id, chunk.generation, position
"""  # noqa: S608
BEGUN = """
SELECT task.id, task.status, task.consumed_seq, request.message
FROM tasks_app_taskrequest request JOIN tasks_app_task task ON task.id = request.task_id
WHERE request.client_id = %(client_id)s AND request.agent = %(agent)s AND request.message_id = %(message_id)s
"""
OWNED = "SELECT id FROM tasks_app_task WHERE id = ANY(%(task_id)s::uuid[]) AND client_id = %(client_id)s"
STATUSES = "SELECT id, status FROM tasks_app_task WHERE id = ANY(%(task_id)s::uuid[])"
LATEST = "SELECT id, generation FROM tasks_app_task WHERE id = ANY(%(task_id)s::uuid[])"

_PLACE = """task.id, task.batch_index, task.status, task.progress, task.attempt, task.generation, task.error,
       task.completed_at, task.updated_at, now()"""
PLACES = f"""
SELECT {_PLACE} FROM tasks_app_task task
WHERE task.batch_id = %(batch_id)s AND task.batch_index IS NOT NULL ORDER BY task.batch_index
"""  # noqa: S608 (only constants are put in)
PLACES_OF = f"""
SELECT {_PLACE} FROM unnest(%(task_id)s::uuid[]) AS item(id) JOIN tasks_app_task task USING (id)
WHERE task.batch_id = %(batch_id)s AND task.batch_index IS NOT NULL ORDER BY task.batch_index
"""  # noqa: S608
IS_BATCH = "SELECT 1 FROM tasks_app_batch WHERE id = %(batch_id)s AND client_id = %(client_id)s"
# Served by task_batch_place_once, like the places themselves.
DISPLACED = "SELECT count(*) FROM tasks_app_task WHERE batch_id = %(batch_id)s AND batch_index IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceRecord:
    """A task that holds a place of a batch, as it was at ``read_at``, by the database's clock."""

    task_id: UUID
    index: int
    status: TaskStatus
    progress: float
    attempt: int
    generation: int
    error: dict[str, str] | None
    completed_at: datetime | None
    updated_at: datetime
    read_at: datetime


def task(
    task_id: UUID, *, client_id: int, agent: str | None = None, history: int | None = None, artifacts: bool = True
) -> Steps[TaskRecord | None]:
    """The task, if this client owns it (and this agent runs it, where one is named); else None."""
    return (yield from tasks_of([Wanted(task_id, client_id, agent, history, artifacts)]))[0]


def light_tasks_of(wanted: Sequence[Wanted]) -> Steps[list[TaskRecord | Heavy | None]]:
    """As :func:`tasks_of`, without waiting for a storage."""
    found: list[TaskRecord | Heavy | None] = list((yield from tasks_of(wanted, light=True)))
    for nth, each in enumerate(found):
        if isinstance(each, TaskRecord) and _is_heavy(each):
            found[nth] = HEAVY
    return found


def _is_heavy(found: TaskRecord) -> bool:
    return any(map(files.are_in, found.messages)) or any(part.waits for view in found.artifacts for part in view.parts)


def tasks_of(wanted: Sequence[Wanted], *, light: bool = False) -> Steps[list[TaskRecord | None]]:
    """Each of these tasks, in order; None where it is not there for whom it is wanted. ``light``: without contents."""
    params = {name: [getattr(each, name) for each in wanted] for name in Wanted._fields}
    rows = {row[0] - 1: row[1:] for row in (yield Statement(TASKS, params))}
    carrying = {row[0]: row[7] for row in rows.values() if row[14]}
    views = (yield from artifacts_of(list(carrying.items()), light=light)) if carrying else {}
    there = [(nth, each) for nth, each in enumerate(wanted) if nth in rows]
    said = [(each.task_id, _said(rows[nth], each)) for nth, each in there]
    filled = [each for _, each in said] if light else (yield from files.filled(said))
    found: list[TaskRecord | None] = [None] * len(wanted)
    for (nth, each), messages in zip(there, filled, strict=True):
        found[nth] = record(rows[nth], messages, views.get(each.task_id, ()) if each.artifacts else ())
    return found


def _said(row: tuple[Any, ...], wanted: Wanted) -> tuple[bytes, ...]:
    messages = () if row[13] is None else (bytes(row[12]), *map(bytes, row[13]))
    return messages[-wanted.history :] if wanted.history else messages


def record(row: tuple[Any, ...], messages: tuple[bytes, ...], artifacts: tuple[ArtifactView, ...]) -> TaskRecord:
    """The columns of a task in :data:`TASKS`, from its id to its message, with what was read beside them."""
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
        request=bytes(row[12]),
        messages=messages,
        artifacts=artifacts,
    )


def artifacts_of(seen: Sequence[Cursor], *, light: bool = False) -> Steps[dict[UUID, tuple[ArtifactView, ...]]]:
    """The artifacts of each task as they stood at its generation, in the order in which they were begun."""
    params = {"task_id": [task_id for task_id, _ in seen], "generation": [generation for _, generation in seen]}
    heads: dict[tuple[UUID, str], tuple[Any, ...]] = {}
    parts: dict[tuple[UUID, str], list[PartRecord]] = {}
    for row in (yield Statement(ARTIFACTS, params)):
        heads[row[0], row[1]] = row[2:5]
        if row[5] is not None:
            parts.setdefault((row[0], row[1]), []).append((yield from _part(row[5:], light=light)))
    found: dict[UUID, list[ArtifactView]] = {}
    for (task_id, artifact_id), (name, description, metadata) in heads.items():
        view = ArtifactView(
            artifact_id=artifact_id,
            name=name,
            description=description,
            metadata=decoded(metadata),
            parts=tuple(parts.get((task_id, artifact_id), ())),
        )
        found.setdefault(task_id, []).append(view)
    return {task_id: tuple(views) for task_id, views in found.items()}


def events(task_id: UUID, *, after: int, limit: int = EVENTS_MAX) -> Steps[list[EventRecord]]:
    """The task's events past a generation, in order, with what their artifacts carried.

    As many as fit into ``limit`` and ``CONTENT_MAX_BYTES``, but one if there is any; the last says if there are more.
    """
    return (yield from events_of([(task_id, after)], limit=limit))[0]


def light_events_of(cursors: Sequence[Cursor]) -> Steps[list[list[EventRecord] | Heavy]]:
    """As :func:`events_of`, without waiting for a storage."""
    found = yield from events_of(cursors, light=True)
    return [HEAVY if any(map(_carries, each)) else each for each in found]


def _carries(event: EventRecord) -> bool:
    return any(part.waits for part in event.parts) or (event.is_follow_up and files.are_in(event.payload or b""))


def events_of(
    cursors: Sequence[Cursor], *, limit: int = EVENTS_MAX, light: bool = False
) -> Steps[list[list[EventRecord]]]:
    """The events past each cursor, in order; ``CONTENT_MAX_BYTES`` is shared evenly. ``light``: without contents."""
    params = {
        "task_id": [task_id for task_id, _ in cursors],
        "after": [after for _, after in cursors],
        "limit": limit,
        "size_bytes": CONTENT_MAX_BYTES // len(cursors),
    }
    rows = yield Statement(EVENTS, params)
    carrying = {(row[1], row[2]) for row in rows if row[3] == "artifact"}
    parts: dict[Cursor, list[PartRecord]] = {}
    if carrying:
        params = {"task_id": [task_id for task_id, _ in carrying], "generation": [number for _, number in carrying]}
        for chunk in (yield Statement(CHUNKS, params)):
            parts.setdefault((chunk[0], chunk[1]), []).append((yield from _part(chunk[2:], light=light)))
    # What a client says stands in events of their own.
    said = [row for row in rows if row[3] == "message" and row[8] == 0 and not light]
    filled = yield from files.filled([(row[1], (bytes(row[6]),)) for row in said])
    payloads = {(row[1], row[2]): each[0] for row, each in zip(said, filled, strict=True)}
    found: list[list[EventRecord]] = [[] for _ in cursors]
    for row in rows:
        payload = payloads.get((row[1], row[2]), None if row[6] is None else bytes(row[6]))
        found[row[0] - 1].append(_event(row[1:], payload, tuple(parts.get((row[1], row[2]), ()))))
    return found


def begun(*, message_id: str, client_id: int, agent: str) -> Steps[Begun | None]:
    """The client's task of this agent that a message of this id made."""
    rows = yield Statement(BEGUN, {"message_id": message_id, "client_id": client_id, "agent": agent})
    if not rows:
        return None
    task_id, status, consumed_seq, message = rows[0]
    ((said,),) = yield from files.filled([(task_id, [bytes(message)])])
    return Begun(task_id=task_id, status=TaskStatus(status), consumed_seq=consumed_seq, message=said)


def is_batch(batch_id: UUID, *, client_id: int) -> Steps[bool]:
    """Whether the client has this batch."""
    return bool((yield Statement(IS_BATCH, {"batch_id": batch_id, "client_id": client_id})))


def displaced(batch_id: UUID) -> Steps[int]:
    """How many of the batch's tasks have lost their places to reruns: as long as it is the same, so are the places."""
    return int((yield Statement(DISPLACED, {"batch_id": batch_id}))[0][0])


def places(batch_id: UUID, *, among: Sequence[UUID] | None = None) -> Steps[list[PlaceRecord]]:
    """The tasks that hold the batch's places, in order; of all tasks, or ``among`` these."""
    of: dict[str, Any] = {"batch_id": batch_id}
    statement = Statement(PLACES, of) if among is None else Statement(PLACES_OF, {**of, "task_id": list(among)})
    return [_place(row) for row in (yield statement)]


def owned(task_ids: Sequence[UUID], *, client_id: int) -> Steps[set[UUID]]:
    """Which of these tasks are this client's."""
    return {row[0] for row in (yield Statement(OWNED, {"task_id": list(task_ids), "client_id": client_id}))}


def statuses(task_ids: Sequence[UUID]) -> Steps[dict[UUID, TaskStatus]]:
    """The state of each of these tasks."""
    rows = yield Statement(STATUSES, {"task_id": list(task_ids)})
    return {task_id: TaskStatus(status) for task_id, status in rows}


def latest(task_ids: Sequence[UUID]) -> Steps[dict[UUID, int]]:
    """The newest generation of each of these tasks."""
    return dict((yield Statement(LATEST, {"task_id": list(task_ids)})))


def _event(row: tuple[Any, ...], payload: bytes | None, parts: tuple[PartRecord, ...]) -> EventRecord:
    return EventRecord(
        task_id=row[0],
        generation=row[1],
        kind=row[2],
        status=TaskStatus(row[3]),
        progress=row[4],
        payload=payload,
        error=decoded(row[6]),
        attempt=row[7],
        created_at=row[8],
        parts=parts,
        started=row[9],
        more=row[10],
    )


def _place(row: tuple[Any, ...]) -> PlaceRecord:
    return PlaceRecord(
        task_id=row[0],
        index=row[1],
        status=TaskStatus(row[2]),
        progress=row[3],
        attempt=row[4],
        generation=row[5],
        error=decoded(row[6]),
        completed_at=row[7],
        updated_at=row[8],
        read_at=row[9],
    )


def _part(row: tuple[Any, ...], *, light: bool) -> Steps[PartRecord]:
    kind, media_type, filename, metadata, artifact_id, content, *stored = row
    waits = content is None and stored[3] <= settings.A2A_MAX_ARTIFACT_BYTES
    if waits and not light:
        content = (yield Contents([Stored(*stored)], or_none=True))[0][0]
    if content is None:
        # No message could hold it, or it cannot be had now: a stream goes on all the same.
        kind, content = "url", content_url(artifact_id).encode()
    return PartRecord(
        kind=kind,
        media_type=media_type,
        filename=filename,
        content=bytes(content),
        metadata=decoded(metadata),
        size_bytes=stored[3] if stored[0] else len(content),
        waits=waits and light,
    )
