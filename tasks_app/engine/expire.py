"""expire: ends what ran, waited to start, or waited for its client for too long. The tasks fail and are fenced."""

from __future__ import annotations

import json

from django.conf import settings

from tasks_app.engine.core import Statement, Steps
from tasks_app.engine.loss import moved
from tasks_app.engine.records import Moved

#: The worker's own limits come first; the sweep ends only what they have not after this part of a lease.
GRACE = 1 / 3

# Of attempts, only those whose lease is alive: what nobody extends was not running all the time, and is rescued. The
# worker stops the handler when it finds the lease lost; the slot stays taken until then.
RAN = """
WITH expired AS (
    SELECT task.id, task.lease_id FROM tasks_app_task task
    JOIN tasks_app_taskattempt attempt ON attempt.id = task.lease_id
    WHERE task.status = 'running' AND task.timeout_at < now() - %(grace_s)s * interval '1 second'
      AND attempt.lease_expires_at > now()
    ORDER BY task.id LIMIT %(limit)s
    FOR UPDATE OF task SKIP LOCKED
)"""
# Served by task_start_deadline_idx and task_input_expiry_idx.
NOT_STARTED = """
WITH expired AS (
    SELECT id, lease_id FROM tasks_app_task
    WHERE status = 'pending' AND start_deadline_at < now() AND started_at IS NULL AND deps_left = 0
    ORDER BY start_deadline_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)"""
NOT_ANSWERED = """
WITH expired AS (
    SELECT id, lease_id FROM tasks_app_task WHERE input_expires_at < now()
    ORDER BY input_expires_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)"""
#: Fails the tasks that ``expired`` names, with ``error``.
FAIL = """, failed AS (
    UPDATE tasks_app_task task
    SET status = 'failed', completed_at = now(), error = %(error)s::jsonb, epoch = epoch + 1,
        generation = generation + 1, lease_id = NULL, timeout_at = NULL, admitted_at = NULL, republish_at = NULL,
        input_expires_at = NULL, status_message = NULL, status_at = now(), updated_at = now()
    FROM expired WHERE task.id = expired.id
    RETURNING task.id, task.lane, task.agent, task.priority, task.status, task.started_at, task.generation,
              task.progress, expired.lease_id
), ended AS (
    UPDATE tasks_app_taskattempt attempt SET ended_at = now(), outcome = 'timed_out', error = %(error)s::jsonb
    FROM failed WHERE attempt.id = failed.lease_id
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, error, attempt, created_at)
    SELECT id, generation, 'status', 'failed', progress, %(error)s::jsonb, 0, now() FROM failed
)
SELECT id, lane, agent, priority, status, started_at, now(), CASE WHEN lease_id IS NOT NULL THEN 'timed_out' END
FROM failed
"""
SWEEPS = [
    (RAN + FAIL, {"code": "timeout", "message": "ran longer than its timeout, and did not stop by itself"}),
    (NOT_STARTED + FAIL, {"code": "start_deadline", "message": "could not be started before its start deadline"}),
    (NOT_ANSWERED + FAIL, {"code": "input_expired", "message": "the client did not answer in time"}),
]


def expire(*, limit: int = 500) -> Steps[list[Moved]]:
    """Fails up to ``limit`` tasks of each kind that are past their time."""
    expired: list[Moved] = []
    for sql, error in SWEEPS:
        params = {"error": json.dumps(error), "limit": limit, "grace_s": GRACE * settings.A2A_LEASE_S}
        expired += moved((yield Statement(sql, params)))
    return expired
