"""rescue: ends attempts whose lease expired or whose process died, and makes their tasks pending again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from tasks_app.engine.core import Statement, Steps
from tasks_app.models.attempt import Outcome
from tasks_app.status import TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """A task taken from a lost attempt: pending again, or failed when its attempts are spent."""

    task_id: UUID
    lane: str
    status: TaskStatus


# Locks the task before the attempt, as every writer does. The guard on lease_id is on the locked row: of a rescue and a
# finish at the same time, one wins.
RESCUE = """
WITH lost AS (
    SELECT task.id, attempt.id AS attempt_id FROM tasks_app_taskattempt attempt
    JOIN tasks_app_task task ON task.lease_id = attempt.id AND task.id = attempt.task_id
    WHERE attempt.released_at IS NULL AND attempt.ended_at IS NULL
      AND CASE WHEN %(attempt_id)s::uuid[] IS NULL THEN attempt.lease_expires_at < now()
               ELSE attempt.id = ANY(%(attempt_id)s::uuid[]) END
    ORDER BY task.id LIMIT %(limit)s
    FOR UPDATE OF task SKIP LOCKED
), moved AS (
    UPDATE tasks_app_task task
    SET status = CASE WHEN task.attempt >= task.max_attempts THEN 'failed' ELSE 'pending' END,
        completed_at = CASE WHEN task.attempt >= task.max_attempts THEN now() END,
        error = CASE WHEN task.attempt >= task.max_attempts THEN jsonb_build_object(
            'code', 'attempts_exhausted',
            'message', format('gave up after %%s attempts; the last ended: %%s', task.attempt, %(cause)s::text)) END,
        epoch = task.epoch + 1, generation = task.generation + 1, lease_id = NULL, timeout_at = NULL,
        updated_at = now()
    FROM lost WHERE task.id = lost.id AND task.lease_id = lost.attempt_id
    RETURNING task.id, task.lane, task.status, task.generation, task.progress, task.error, lost.attempt_id
), ended AS (
    UPDATE tasks_app_taskattempt attempt
    SET ended_at = now(), released_at = now(), outcome = %(cause)s,
        error = jsonb_build_object('code', %(cause)s::text, 'message', %(message)s::text)
    FROM moved WHERE attempt.id = moved.attempt_id
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, error, attempt, created_at)
    SELECT id, generation, 'status', status, progress,
           COALESCE(error, jsonb_build_object('code', %(cause)s::text, 'message', %(message)s::text)), 0, now()
    FROM moved
)
SELECT id, lane, status FROM moved
"""

# Attempts that were fenced before (a cancel) and whose worker never said that the handler stopped.
FREE = """
UPDATE tasks_app_taskattempt SET released_at = now()
WHERE released_at IS NULL AND ended_at IS NOT NULL AND lease_expires_at < now() - %(lease_s)s * interval '1 second'
"""

MESSAGES = {
    Outcome.LEASE_EXPIRED: "its worker did not extend the lease in time",
    Outcome.PROCESS_LOST: "the process that ran it died",
}

# After a gap of more than two ticks nobody could extend a lease either: wait one lease before judging.
TICK = """
INSERT INTO tasks_app_sweeptick AS tick (name, last_at, hold_until) VALUES (%(name)s, now(), now())
ON CONFLICT (name) DO UPDATE
SET last_at = now(),
    hold_until = CASE WHEN now() - tick.last_at > %(gap_s)s * interval '1 second'
                      THEN now() + %(lease_s)s * interval '1 second' ELSE tick.hold_until END
RETURNING hold_until <= now()
"""
LATE = """
SELECT COALESCE(max(last_at) < now() - %(gap_s)s * interval '1 second', true)
FROM tasks_app_sweeptick WHERE name = %(name)s
"""
SWEEP = "rescue"


def rescue(
    attempt_ids: Sequence[UUID] | None = None,
    *,
    cause: Outcome = Outcome.LEASE_EXPIRED,
    limit: int = 500,
) -> Steps[list[Rescued]]:
    """Ends up to ``limit`` attempts: these, whose process is known to be dead, or all whose lease has expired."""
    params = {
        "attempt_id": None if attempt_ids is None else list(attempt_ids),
        "cause": cause.value,
        "message": MESSAGES[cause],
        "limit": limit,
    }
    rows = yield Statement(RESCUE, params)
    yield Statement(FREE, {"lease_s": settings.A2A_LEASE_S})
    return [Rescued(task_id=row[0], lane=row[1], status=TaskStatus(row[2])) for row in rows]


def tick() -> Steps[bool]:
    """Records that the sweep runs now; whether leases may be judged by the clock."""
    gap_s = 3 * settings.A2A_SWEEP_S
    rows = yield Statement(TICK, {"name": SWEEP, "gap_s": gap_s, "lease_s": settings.A2A_LEASE_S})
    return bool(rows[0][0])


def sweep_is_late() -> Steps[bool]:
    """Whether nobody has swept for two intervals and more: then the dispatcher does."""
    rows = yield Statement(LATE, {"name": SWEEP, "gap_s": 2 * settings.A2A_SWEEP_S})
    return bool(rows[0][0])
