"""expire: ends attempts that ran past their timeout. Their tasks fail and are fenced; the workers stop the handlers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

from tasks_app.engine.core import Statement, Steps
from tasks_app.engine.rescue import Rescued
from tasks_app.status import TaskStatus

#: The worker's own limits come first; the sweep ends only what they did not.
GRACE_S = 10.0
ERROR = {"code": "timeout", "message": "ran longer than its timeout, and did not stop by itself"}

EXPIRE = """
WITH expired AS (
    SELECT task.id, task.lease_id FROM tasks_app_task task
    JOIN tasks_app_taskattempt attempt ON attempt.id = task.lease_id
    WHERE task.status = 'running'
      AND CASE WHEN %(attempt_id)s::uuid[] IS NULL
               THEN task.timeout_at < now() - %(grace_s)s * interval '1 second' AND attempt.lease_expires_at > now()
               ELSE task.timeout_at <= now() AND task.lease_id = ANY(%(attempt_id)s::uuid[]) END
    ORDER BY task.id LIMIT %(limit)s
    FOR UPDATE OF task SKIP LOCKED
), moved AS (
    UPDATE tasks_app_task task
    SET status = 'failed', completed_at = now(), error = %(error)s::jsonb, epoch = epoch + 1,
        generation = generation + 1, lease_id = NULL, timeout_at = NULL, updated_at = now()
    FROM expired WHERE task.id = expired.id
    RETURNING task.id, task.lane, task.generation, task.progress, expired.lease_id
), ended AS (
    UPDATE tasks_app_taskattempt attempt SET ended_at = now(), outcome = 'timed_out', error = %(error)s::jsonb
    FROM moved WHERE attempt.id = moved.lease_id
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, error, attempt, created_at)
    SELECT id, generation, 'status', 'failed', progress, %(error)s::jsonb, 0, now() FROM moved
)
SELECT id, lane FROM moved
"""


def expire(attempt_ids: Sequence[UUID] | None = None, *, limit: int = 500) -> Steps[list[Rescued]]:
    """Fails the tasks of attempts past their timeout: of these, whose process was killed, or of all (after a grace).

    Of all, only those whose lease is alive: what nobody extends was not running all the time, and is rescued. A slot
    stays taken until the handler stops.
    """
    params = {
        "attempt_id": None if attempt_ids is None else list(attempt_ids),
        "grace_s": GRACE_S,
        "error": json.dumps(ERROR),
        "limit": limit,
    }
    rows = yield Statement(EXPIRE, params)
    return [Rescued(task_id=row[0], lane=row[1], status=TaskStatus.FAILED) for row in rows]
