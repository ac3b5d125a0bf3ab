"""claim and extend: the right to write, and keeping it (D5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from tasks_app.engine.artifacts import Kept, kept
from tasks_app.engine.conditions import ADMITTED
from tasks_app.engine.core import Statement, Steps
from tasks_app.models.event import IS_SAID
from tasks_app.policies import BOUNDLESS, UNSIZED, Resources
from tasks_app.status import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A worker's wish to run a task. ``attempt_id`` is random, made once per execution of the job."""

    task_id: UUID
    epoch: int
    attempt_id: UUID
    worker: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the worker that claims has to offer: the agents it can run, and what it has free for sized tasks."""

    agents: tuple[str, ...]
    free: Resources = BOUNDLESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A granted claim: all a handler needs. ``message`` is the A2A Message that it answers, as protobuf bytes.

    ``turn`` counts the client's messages from 1; ``history`` is what both sides said before this turn, oldest first.
    ``spent`` of ``max_attempts`` attempts are used up in this turn, without this one. ``checkpoints`` are the earlier
    attempts'. ``accepted_output_modes`` are the media types that the client takes; empty if it did not say. ``client``
    is whose task it is, by name.
    """

    task_id: UUID
    attempt_id: UUID
    attempt: int
    agent: str
    lane: str
    priority: Priority
    context_id: str
    timeout_s: float
    timeout_at: datetime
    run_after: datetime
    started_at: datetime
    spent: int
    max_attempts: int
    message: bytes
    parameters: dict[str, Any]
    metadata: dict[str, Any]
    resources: Resources = UNSIZED
    checkpoints: dict[str, Any] = field(default_factory=dict)
    #: By artifact id, what this attempt may add to, of what earlier ones left.
    kept: dict[str, Kept] = field(default_factory=dict)
    turn: int = 1
    history: tuple[bytes, ...] = ()
    accepted_output_modes: tuple[str, ...] = ()
    client: str = ""


_COLUMNS = """
    task.id, task.lease_id, task.attempt, task.agent, task.lane, task.priority, task.context_id, task.timeout_s,
    task.timeout_at, task.run_after, task.started_at, task.spent, task.max_attempts, task.consumed_seq,
    task.turn_generation
"""
_REQUEST = """
    request.message, request.parameters, request.metadata, request.resources, request.accepted_output_modes, client.name
"""
_JOINED = """
    JOIN tasks_app_taskrequest request ON request.task_id = task.id
    JOIN tasks_app_client client ON client.id = task.client_id
"""

CLAIM = f"""
WITH item AS (
    SELECT * FROM unnest(%(task_id)s::uuid[], %(epoch)s::int[], %(attempt_id)s::uuid[], %(worker)s::text[],
                         %(pid)s::int[]) AS item(task_id, epoch, attempt_id, worker, pid)
), won AS (
    UPDATE tasks_app_task task
    SET status = 'running', lease_id = item.attempt_id, epoch = task.epoch + 1, generation = task.generation + 1,
        attempt = task.attempt + 1, recorded = 0, progress = 0, admitted_at = NULL, republish_at = NULL,
        status_message = NULL, started_at = COALESCE(task.started_at, now()), status_at = now(), updated_at = now(),
        timeout_at = now() + task.timeout_s * interval '1 second'
    FROM item
    WHERE task.id = item.task_id AND task.epoch = item.epoch AND {ADMITTED}
      AND (%(agents)s::text[] IS NULL OR task.agent = ANY(%(agents)s::text[]))
      AND task.memory_mb <= %(memory_mb)s AND task.cores <= %(cores)s AND task.disk_mb <= %(disk_mb)s
    RETURNING {_COLUMNS}, task.client_id, task.epoch, task.generation, item.worker, item.pid
), attempt AS (
    INSERT INTO tasks_app_taskattempt
        (id, task_id, agent, number, epoch, worker, pid, claimed_at, lease_expires_at, traceback)
    SELECT lease_id, id, agent, attempt, epoch, worker, pid, now(), now() + %(lease_s)s * interval '1 second', ''
    FROM won
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, attempt, created_at)
    SELECT id, generation, 'status', 'running', 0, attempt, now() FROM won
)
SELECT {_COLUMNS}, {_REQUEST}
FROM won task {_JOINED}
"""  # noqa: S608 (only constants are put in)

# The same execution asking again (its first answer was lost with the connection) gets the same claim.
HELD = f"""
SELECT {_COLUMNS}, {_REQUEST}
FROM tasks_app_task task {_JOINED}
WHERE task.id = ANY(%(task_id)s::uuid[]) AND task.lease_id = ANY(%(attempt_id)s::uuid[])
"""  # noqa: S608

# What this worker cannot run goes back to the dispatcher; the raised epoch makes the hint in the broker stale.
UNADMIT_MISFITS = f"""
UPDATE tasks_app_task task
SET admitted_at = NULL, republish_at = NULL, publishes = 0, epoch = task.epoch + 1
FROM unnest(%(task_id)s::uuid[], %(epoch)s::int[]) AS item(task_id, epoch)
WHERE task.id = item.task_id AND task.epoch = item.epoch AND {ADMITTED}
"""  # noqa: S608

CHECKPOINTS = "SELECT task_id, name, data FROM tasks_app_checkpoint WHERE task_id = ANY(%(task_id)s::uuid[])"

# What was said up to a turn: neither the client's later messages, which wait for theirs, nor what the turn itself said.
SAID = f"""
SELECT item.task_id, event.payload,
       CASE event.generation WHEN inbox.generation THEN inbox.accepted_output_modes END
FROM unnest(%(task_id)s::uuid[], %(seq)s::int[], %(until)s::int[]) AS item(task_id, seq, until)
JOIN tasks_app_inboxmessage inbox ON inbox.task_id = item.task_id AND inbox.seq = item.seq
JOIN tasks_app_taskevent event ON event.task_id = item.task_id AND event.generation <= item.until
WHERE {IS_SAID}
  AND (event.kind <> 'message' OR event.attempt > 0 OR event.generation <= inbox.generation)
ORDER BY event.task_id, event.generation
"""  # noqa: S608

EXTEND = """
UPDATE tasks_app_taskattempt SET lease_expires_at = now() + %(lease_s)s * interval '1 second'
WHERE id = ANY(%(attempt_id)s::uuid[]) AND released_at IS NULL
RETURNING id, ended_at IS NULL
"""


FENCED = "SELECT id FROM tasks_app_taskattempt WHERE id = ANY(%(attempt_id)s::uuid[]) AND ended_at IS NOT NULL"


def claim(items: Sequence[ClaimRequest], *, offer: Offer | None = None) -> Steps[list[Claim | None]]:
    """Grants each claim whose task is pending, admitted and of the same epoch; None for the others, in order.

    Idempotent for its attempt id. A task whose agent the ``offer`` lacks, or that needs more than it has free, goes
    back to the dispatcher.
    """
    names = ("task_id", "epoch", "attempt_id", "worker", "pid")
    params: dict[str, Any] = {name: [getattr(item, name) for item in items] for name in names}
    won = yield Statement(CLAIM, params | _bind_offer(offer) | {"lease_s": settings.A2A_LEASE_S})
    lost = [item for item in items if item.attempt_id not in {row[1] for row in won}]
    if lost:
        params = {name: [getattr(item, name) for item in lost] for name in ("task_id", "attempt_id", "epoch")}
        held = yield Statement(HELD, params)
        won = [*won, *held]
        if offer is not None and len(held) < len(lost):
            yield Statement(UNADMIT_MISFITS, params)
    more = yield from _more([row for row in won if row[2] > 1])
    claims = {row[1]: replace(_claim(row), **more[row[0]]) if row[0] in more else _claim(row) for row in won}
    return [claims.get(item.attempt_id) for item in items]


def extend(attempt_ids: Sequence[UUID]) -> Steps[set[UUID]]:
    """Moves the leases of these attempts on; the ids that still held theirs. The others have lost it.

    Also of attempts that lost it while their handler goes on: their slot stays taken as long as somebody says so.
    """
    params = {"attempt_id": list(attempt_ids), "lease_s": settings.A2A_LEASE_S}
    rows = yield Statement(EXTEND, params)
    return {attempt_id for attempt_id, holds in rows if holds}


def fenced(attempt_ids: Sequence[UUID]) -> Steps[set[UUID]]:
    """Which of these attempts somebody has ended: cheaper to ask than to extend, so it can be asked more often."""
    rows = yield Statement(FENCED, {"attempt_id": list(attempt_ids)})
    return {row[0] for row in rows}


def _bind_offer(offer: Offer | None) -> dict[str, Any]:
    free = offer.free if offer else BOUNDLESS
    return {
        "agents": list(offer.agents) if offer else None,
        "memory_mb": free.memory_mb,
        "cores": free.cores,
        "disk_mb": free.disk_mb,
    }


def _more(rows: list[tuple[Any, ...]]) -> Steps[dict[UUID, dict[str, Any]]]:
    """What claims of tasks that have run before bring along, by task: a statement for each kind, or none."""
    if not rows:
        return {}
    ids = [row[0] for row in rows]
    checkpoints = yield from _checkpoints(ids)
    left = yield from kept(ids, [row[14] for row in rows])
    turns = yield from _turns([row for row in rows if row[13] > 0])
    return {
        task_id: {
            "checkpoints": checkpoints.get(task_id, {}),
            "kept": left.get(task_id, {}),
            **turns.get(task_id, {}),
        }
        for task_id in ids
    }


def _checkpoints(task_ids: list[UUID]) -> Steps[dict[UUID, dict[str, Any]]]:
    """What earlier attempts of these tasks left, by task and name."""
    found: dict[UUID, dict[str, Any]] = {}
    for task_id, name, data in (yield Statement(CHECKPOINTS, {"task_id": task_ids})):
        found.setdefault(task_id, {})[name] = decoded(data)
    return found


def _turns(rows: list[tuple[Any, ...]]) -> Steps[dict[UUID, dict[str, Any]]]:
    """What is different in claims that answer a follow-up, by task: the message, the modes, what was said before."""
    found: dict[UUID, dict[str, Any]] = {row[0]: {"history": (bytes(row[15]),)} for row in rows}
    if rows:
        params = {name: [row[index] for row in rows] for name, index in (("task_id", 0), ("seq", 13), ("until", 14))}
        for task_id, payload, modes in (yield Statement(SAID, params)):
            turn = found[task_id]
            if modes is None:
                turn["history"] += (bytes(payload),)
            else:
                turn |= {"message": bytes(payload), "accepted_output_modes": tuple(modes)}
    return found


def _claim(row: tuple[Any, ...]) -> Claim:
    return Claim(
        task_id=row[0],
        attempt_id=row[1],
        attempt=row[2],
        agent=row[3],
        lane=row[4],
        priority=Priority(row[5]),
        context_id=row[6],
        timeout_s=row[7],
        timeout_at=row[8],
        run_after=row[9],
        started_at=row[10],
        spent=row[11],
        max_attempts=row[12],
        turn=row[13] + 1,
        message=bytes(row[15]),
        parameters=decoded(row[16]),
        metadata=decoded(row[17]),
        resources=_resources(decoded(row[18])),
        accepted_output_modes=tuple(row[19]),
        client=row[20],
    )


def _resources(data: dict[str, Any]) -> Resources:
    """What was stored when the task was accepted; nothing, if that cannot be read any more."""
    try:
        return UNSIZED.with_asked(data)
    except ValueError:
        return UNSIZED


def decoded(value: Any) -> Any:
    """A jsonb value as Python's: Django's connection hands it out as text, psycopg's own decoded."""
    return json.loads(value) if isinstance(value, str | bytes) else value
