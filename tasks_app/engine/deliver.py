"""deliver: a client's further messages to tasks that are there. Each gets a turn of its own; never two at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from tasks_app.engine import arrays, files
from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.status import INTERRUPTED, TERMINAL, Priority, TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """A message to a task of this client and agent; already validated. ``message`` is protobuf bytes, of A2A.

    ``accepted_output_modes`` are the media types that the client takes as an answer to it; empty if it did not say.
    """

    task_id: UUID
    client_id: int
    agent: str
    message_id: str
    message: bytes
    accepted_output_modes: tuple[str, ...] = ()
    #: As of a :class:`tasks_app.engine.create.NewTask`.
    said_digest: bytes | None = None

    def digest(self) -> bytes:
        """The SHA-256 of the message as it was said; equal for a repeat."""
        return self.said_digest or hashlib.sha256(self.message).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What became of a follow-up.

    ``missing``: there is no such task of this client and agent. ``conflict``: its message id was used before, for
    another message to the task. ``ended``: the task is in its last state, and takes none. ``full``: as many messages
    wait for its turns as may. In none of these was it accepted. ``repeated``: its message id was there before; without
    a conflict the message stands since then, whatever has become of the task.

    ``generation`` is that of the message's event, or the task's newest if it has none; ``status`` is the task's state
    now, ``at`` the database's clock.
    """

    task_id: UUID
    missing: bool = False
    conflict: bool = False
    ended: bool = False
    full: bool = False
    repeated: bool = False
    generation: int = 0
    status: TaskStatus = TaskStatus.PENDING
    lane: str = ""
    agent: str = ""
    priority: Priority = Priority.NORMAL
    client_id: int = 0
    at: datetime | None = None

    @property
    def id(self) -> UUID:
        """The task's; so that it can be rung for as a task that has come."""
        return self.task_id

    @property
    def accepted(self) -> bool:
        """Whether the message stands: now or since before."""
        return not (self.missing or self.conflict or self.ended or self.full)


@dataclass(slots=True)
class _Task:
    """A locked task, moved on message by message. ``known`` are its messages: digest and generation, by message id."""

    id: UUID
    client_id: int
    agent: str
    lane: str
    priority: int
    status: str
    progress: float
    generation: int
    inbox_seq: int
    answered: int
    at: datetime
    known: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    #: The message that its next turn answers, and the event that carries it; of a task that waited for its client.
    consumed_seq: int | None = None
    turn_generation: int | None = None


LOCK = """
SELECT id, client_id, agent, lane, priority::int, status, progress, generation, inbox_seq, consumed_seq,
       now()
FROM tasks_app_task
WHERE id = ANY(%(task_id)s::uuid[])
ORDER BY id FOR NO KEY UPDATE
"""
# A statement of its own after the lock: the snapshot of the one that takes it is older than the lock.
KNOWN = """
SELECT inbox.task_id, inbox.message_id, inbox.digest, inbox.generation
FROM unnest(%(task_id)s::uuid[], %(message_id)s::text[]) AS item(task_id, message_id)
JOIN tasks_app_inboxmessage inbox USING (task_id, message_id)
"""
# A task that waited for its client is pending again, as one that has just come: this turn has all its attempts.
DELIVER = f"""
WITH item AS (
    SELECT * FROM unnest(
        %(m_task_id)s::uuid[], %(m_seq)s::int[], %(m_generation)s::int[], %(m_message_id)s::text[],
        %(m_digest)s::bytea[], %(m_message)s::bytea[], %(m_modes)s::text[], %(m_status)s::text[],
        %(m_progress)s::float8[]
    ) AS item(task_id, seq, generation, message_id, digest, message, modes, status, progress)
), inbox AS (
    INSERT INTO tasks_app_inboxmessage
        (task_id, seq, message_id, digest, generation, accepted_output_modes, created_at)
    SELECT task_id, seq, message_id, digest, generation, modes::text[], now() FROM item
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, payload, attempt, created_at)
    SELECT task_id, generation, 'message', status, progress, message, 0, now() FROM item
){files.NAMED.format(where="")}
UPDATE tasks_app_task task
SET generation = moved.generation, inbox_seq = moved.inbox_seq, status = moved.status, updated_at = now(),
    consumed_seq = COALESCE(moved.consumed_seq, task.consumed_seq),
    turn_generation = COALESCE(moved.turn_generation, task.turn_generation),
    status_at = CASE WHEN moved.consumed_seq IS NULL THEN task.status_at ELSE now() END,
    input_expires_at = CASE WHEN moved.consumed_seq IS NULL THEN task.input_expires_at END,
    status_message = CASE WHEN moved.consumed_seq IS NULL THEN task.status_message END,
    run_after = CASE WHEN moved.consumed_seq IS NULL THEN task.run_after ELSE now() END,
    spent = CASE WHEN moved.consumed_seq IS NULL THEN task.spent ELSE 0 END,
    crashes = CASE WHEN moved.consumed_seq IS NULL THEN task.crashes ELSE 0 END
FROM unnest(%(id)s::uuid[], %(generation)s::int[], %(inbox_seq)s::int[], %(status)s::text[], %(consumed_seq)s::int[],
            %(turn_generation)s::int[])
     AS moved(id, generation, inbox_seq, status, consumed_seq, turn_generation)
WHERE task.id = moved.id
"""  # noqa: S608 (only constants are put in)


@transactional
def deliver(items: Sequence[FollowUp]) -> Steps[list[Delivered]]:
    """Delivers the messages; a :class:`Delivered` for each, in order.

    A task that waits for its client runs again by it; in any other the message waits until the turns before its own
    have ended. Idempotent by (task, message id). Locks the tasks, in the order of their ids. Raises a DataError for the
    whole list if one message cannot be stored; none is delivered then.
    """
    rows = yield Statement(LOCK, {"task_id": sorted({item.task_id for item in items})})
    tasks = {row[0]: _Task(*row) for row in rows}
    names = ("task_id", "message_id")
    for row in (yield Statement(KNOWN, {name: [getattr(item, name) for item in items] for name in names})):
        tasks[row[0]].known[row[1]] = (bytes(row[2]), row[3])
    bound: dict[str, list[Any]] = {name: [] for name in _MESSAGE}
    delivered = [_deliver(item, tasks.get(item.task_id), bound) for item in items]
    if bound["m_task_id"]:
        moved = {task_id: tasks[task_id] for task_id in bound["m_task_id"]}
        columns = {name: [getattr(task, name) for task in moved.values()] for name in _MOVED}
        said = zip(bound["m_task_id"], bound["m_message"], strict=True)
        held = [(task_id, files.named(message)) for task_id, message in said]
        yield Statement(DELIVER, bound | columns | files.bound(held))
    return delivered


def _deliver(item: FollowUp, task: _Task | None, bound: dict[str, list[Any]]) -> Delivered:
    """What becomes of the message; one that is accepted moves its task on, and is bound to be written."""
    if task is None or (task.client_id, task.agent) != (item.client_id, item.agent):
        return Delivered(task_id=item.task_id, missing=True)
    known = task.known.get(item.message_id)
    if known is not None:
        digest, generation = known
        return _delivered(task, generation=generation, repeated=True, conflict=digest != item.digest())
    if task.status in TERMINAL:
        return _delivered(task, generation=task.generation, ended=True)
    if task.inbox_seq - task.answered >= settings.A2A_MAX_UNREAD:
        return _delivered(task, generation=task.generation, full=True)
    task.generation += 1
    task.inbox_seq += 1
    task.known[item.message_id] = (item.digest(), task.generation)
    if task.status in INTERRUPTED:
        # It had no message left, so this is the next one's turn.
        task.status, task.consumed_seq, task.turn_generation = "pending", task.inbox_seq, task.generation
    _bind(bound, item, task)
    return _delivered(task, generation=task.generation)


def _delivered(task: _Task, **what: Any) -> Delivered:
    return Delivered(
        task_id=task.id,
        status=TaskStatus(task.status),
        lane=task.lane,
        agent=task.agent,
        priority=Priority(task.priority),
        client_id=task.client_id,
        at=task.at,
        **what,
    )


_MESSAGE = (
    *("m_task_id", "m_seq", "m_generation", "m_message_id", "m_digest", "m_message", "m_modes", "m_status"),
    "m_progress",
)
_MOVED = ("id", "generation", "inbox_seq", "status", "consumed_seq", "turn_generation")


def _bind(bound: dict[str, list[Any]], item: FollowUp, task: _Task) -> None:
    values = (
        task.id,
        task.inbox_seq,
        task.generation,
        item.message_id,
        item.digest(),
        item.message,
        # An array literal for each: unnest would make one flat list of them.
        arrays.bound(list(item.accepted_output_modes)),
        task.status,
        task.progress,
    )
    for name, value in zip(_MESSAGE, values, strict=True):
        bound[name].append(value)
