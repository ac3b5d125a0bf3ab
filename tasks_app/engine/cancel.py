"""request_cancel: the state is cancelled and fenced at once; the work is stopped afterwards, by its worker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.status import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """A task that this call cancelled; ``worker`` is who must stop its handler, empty if none ran."""

    task_id: UUID
    lane: str
    agent: str
    priority: Priority
    worker: str = ""
    started_at: datetime | None = None
    at: datetime


CANCEL = """
UPDATE tasks_app_task task
SET status = 'cancelled', epoch = epoch + 1, generation = generation + 1, lease_id = NULL, admitted_at = NULL,
    republish_at = NULL, timeout_at = NULL, input_expires_at = NULL, status_message = NULL,
    status_at = now(), updated_at = now(), completed_at = now()
WHERE id = ANY(%(task_id)s::uuid[]) AND status IN ('pending', 'running', 'input_required', 'auth_required')
RETURNING id, lane, generation, progress, agent, priority, started_at, now()
"""

# A statement of its own: after a wait for the row, the first one's snapshot need not see the newest attempt.
FENCE = """
WITH event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, error, attempt, created_at)
    SELECT id, generation, 'status', 'cancelled', progress, %(error)s::jsonb, 0, now()
    FROM unnest(%(id)s::uuid[], %(generation)s::int[], %(progress)s::float8[]) AS item(id, generation, progress)
)
UPDATE tasks_app_taskattempt SET ended_at = now(), outcome = 'cancelled', error = %(error)s::jsonb
WHERE task_id = ANY(%(id)s::uuid[]) AND ended_at IS NULL
RETURNING task_id, worker
"""


@transactional
def request_cancel(task_ids: Sequence[UUID], *, by: str) -> Steps[list[Cancelled]]:
    """Cancels those of the tasks that are not terminal; ``by`` says who asked, for the record.

    The slot of a running attempt stays taken until its handler stops or its lease expires.
    """
    rows = yield Statement(CANCEL, {"task_id": sorted(task_ids)})
    if not rows:
        return []
    params = {
        "id": [row[0] for row in rows],
        "generation": [row[2] for row in rows],
        "progress": [row[3] for row in rows],
        "error": json.dumps({"code": "cancelled", "message": f"cancelled by {by}"}),
    }
    workers: dict[UUID, str] = dict((yield Statement(FENCE, params)))
    return [
        Cancelled(
            task_id=row[0],
            lane=row[1],
            agent=row[4],
            priority=Priority(row[5]),
            worker=workers.get(row[0], ""),
            started_at=row[6],
            at=row[7],
        )
        for row in rows
    ]
