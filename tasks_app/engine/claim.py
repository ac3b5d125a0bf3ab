"""claim and extend: the right to write, and keeping it (D5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from tasks_app.engine.core import Statement, Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A worker's wish to run a task. ``attempt_id`` is random, made once per execution of the job."""

    task_id: UUID
    epoch: int
    attempt_id: UUID
    worker: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A granted claim: all a handler needs. ``message`` is the A2A Message as protobuf bytes."""

    task_id: UUID
    attempt_id: UUID
    attempt: int
    agent: str
    lane: str
    context_id: str
    timeout_s: float
    timeout_at: datetime
    message: bytes
    parameters: dict[str, Any]
    metadata: dict[str, Any]


_COLUMNS = """
    task.id, task.lease_id, task.attempt, task.agent, task.lane, task.context_id, task.timeout_s, task.timeout_at
"""

CLAIM = f"""
WITH item AS (
    SELECT * FROM unnest(%(task_id)s::uuid[], %(epoch)s::int[], %(attempt_id)s::uuid[], %(worker)s::text[],
                         %(pid)s::int[]) AS item(task_id, epoch, attempt_id, worker, pid)
), won AS (
    UPDATE tasks_app_task task
    SET status = 'running', lease_id = item.attempt_id, epoch = task.epoch + 1, generation = task.generation + 1,
        attempt = task.attempt + 1, progress = 0, admitted_at = NULL, republish_at = NULL, status_message = NULL,
        started_at = COALESCE(task.started_at, now()), updated_at = now(),
        timeout_at = now() + task.timeout_s * interval '1 second'
    FROM item
    WHERE task.id = item.task_id AND task.epoch = item.epoch AND task.status = 'pending'
      AND task.admitted_at IS NOT NULL
    RETURNING {_COLUMNS}, task.epoch, task.generation, item.worker, item.pid
), attempt AS (
    INSERT INTO tasks_app_taskattempt (id, task_id, number, epoch, worker, pid, claimed_at, lease_expires_at, traceback)
    SELECT lease_id, id, attempt, epoch, worker, pid, now(), now() + %(lease_s)s * interval '1 second', '' FROM won
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, attempt, created_at)
    SELECT id, generation, 'status', 'running', 0, attempt, now() FROM won
)
SELECT {_COLUMNS}, request.message, request.parameters, request.metadata
FROM won task JOIN tasks_app_taskrequest request ON request.task_id = task.id
"""  # noqa: S608 (only constants are put in)

# The same execution asking again (its first answer was lost with the connection) gets the same claim.
HELD = f"""
SELECT {_COLUMNS}, request.message, request.parameters, request.metadata
FROM tasks_app_task task JOIN tasks_app_taskrequest request ON request.task_id = task.id
WHERE task.id = ANY(%(task_id)s::uuid[]) AND task.lease_id = ANY(%(attempt_id)s::uuid[])
"""  # noqa: S608

EXTEND = """
UPDATE tasks_app_taskattempt SET lease_expires_at = now() + %(lease_s)s * interval '1 second'
WHERE id = ANY(%(attempt_id)s::uuid[]) AND ended_at IS NULL
RETURNING id
"""


def claim(items: Sequence[ClaimRequest]) -> Steps[list[Claim | None]]:
    """Grants each claim whose task is pending, admitted and of the same epoch; None for the others, in order.

    Idempotent for its attempt id.
    """
    names = ("task_id", "epoch", "attempt_id", "worker", "pid")
    params: dict[str, Any] = {name: [getattr(item, name) for item in items] for name in names}
    won = _claims((yield Statement(CLAIM, params | {"lease_s": settings.A2A_LEASE_S})))
    lost = [item for item in items if item.attempt_id not in won]
    if lost:
        params = {name: [getattr(item, name) for item in lost] for name in ("task_id", "attempt_id")}
        won |= _claims((yield Statement(HELD, params)))
    return [won.get(item.attempt_id) for item in items]


def extend(attempt_ids: Sequence[UUID]) -> Steps[set[UUID]]:
    """Moves the leases of these attempts on; the ids that still held theirs. The others have lost it."""
    params = {"attempt_id": list(attempt_ids), "lease_s": settings.A2A_LEASE_S}
    rows = yield Statement(EXTEND, params)
    return {row[0] for row in rows}


def _claims(rows: list[tuple[Any, ...]]) -> dict[UUID, Claim]:
    return {row[1]: _claim(row) for row in rows}


def _claim(row: tuple[Any, ...]) -> Claim:
    task_id, attempt_id, attempt, agent, lane, context_id, timeout_s, timeout_at, message, parameters, metadata = row
    return Claim(
        task_id=task_id,
        attempt_id=attempt_id,
        attempt=attempt,
        agent=agent,
        lane=lane,
        context_id=context_id,
        timeout_s=timeout_s,
        timeout_at=timeout_at,
        message=bytes(message),
        parameters=decoded(parameters),
        metadata=decoded(metadata),
    )


def decoded(value: Any) -> Any:
    """A jsonb value as Python's: Django's connection hands it out as text, psycopg's own decoded."""
    return json.loads(value) if isinstance(value, str | bytes) else value
