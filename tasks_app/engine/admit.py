"""admit and republish: what may enter the broker now. The dispatcher is the only caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from tasks_app.engine.core import Statement, Steps
from tasks_app.status import Lane, Priority

#: The longest interval between two publishes of one hint, in seconds.
REPUBLISH_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class Hint:
    """What a message in the broker stands for: this task may be claimed with this epoch."""

    task_id: UUID
    epoch: int
    lane: Lane
    priority: Priority
    timeout_s: float


# The index task_dispatch_idx serves the inner select: no sort, no count.
ADMIT = """
WITH room AS (SELECT * FROM unnest(%(lane)s::text[], %(limit)s::int[]) AS room(lane, n)),
picked AS (
    SELECT next.id FROM room, LATERAL (
        SELECT id FROM tasks_app_task
        WHERE status = 'pending' AND admitted_at IS NULL AND lane = room.lane AND run_after <= now()
        ORDER BY rank_at, id LIMIT room.n
        FOR UPDATE SKIP LOCKED
    ) next
), admitted AS (
    UPDATE tasks_app_task task
    SET admitted_at = now(), publishes = 1, republish_at = now() + %(republish_s)s * interval '1 second'
    FROM picked WHERE task.id = picked.id
    RETURNING task.id, epoch, lane, priority, timeout_s, rank_at
)
SELECT id, epoch, lane, priority, timeout_s FROM admitted ORDER BY rank_at, id
"""

REPUBLISH = """
WITH due AS (
    SELECT id FROM tasks_app_task
    WHERE status = 'pending' AND admitted_at IS NOT NULL AND republish_at <= now()
    ORDER BY republish_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), again AS (
    UPDATE tasks_app_task task
    SET publishes = LEAST(publishes + 1, 100),
        republish_at = now() + LEAST(%(republish_s)s * power(2, LEAST(publishes, 20)), %(max_s)s) * interval '1 second'
    FROM due WHERE task.id = due.id
    RETURNING task.id, epoch, lane, priority, timeout_s, rank_at
)
SELECT id, epoch, lane, priority, timeout_s FROM again ORDER BY rank_at, id
"""

UNPUBLISHED = """
UPDATE tasks_app_task SET publishes = 0, republish_at = now() + %(republish_s)s * interval '1 second'
WHERE id = ANY(%(task_id)s::uuid[]) AND status = 'pending' AND admitted_at IS NOT NULL
"""

OUTSTANDING = """
SELECT lane, count(*) FROM tasks_app_task
WHERE status = 'running' OR (status = 'pending' AND admitted_at IS NOT NULL)
GROUP BY lane
"""


def admit(room: Mapping[Lane, int]) -> Steps[list[Hint]]:
    """Marks up to ``room[lane]`` eligible tasks of each lane as admitted; the hints to publish, most urgent first.

    Locks the rows it takes and skips those another holds. Publish after this returns: it has committed.
    """
    params = {
        "lane": [lane.value for lane in room],
        "limit": list(room.values()),
        "republish_s": settings.A2A_REPUBLISH_S,
    }
    return _hints((yield Statement(ADMIT, params)))


def republish(*, limit: int = 500) -> Steps[list[Hint]]:
    """The hints that nobody claimed in time, to be published again under the same epoch and admission."""
    params = {"limit": limit, "republish_s": settings.A2A_REPUBLISH_S, "max_s": REPUBLISH_MAX_S}
    return _hints((yield Statement(REPUBLISH, params)))


def unpublished(task_ids: Sequence[UUID]) -> Steps[None]:
    """Notes that the broker did not take these hints: they are due again soon, without a longer interval."""
    yield Statement(UNPUBLISHED, {"task_id": list(task_ids), "republish_s": settings.A2A_REPUBLISH_S})


def outstanding() -> Steps[dict[Lane, int]]:
    """How many tasks of each lane are admitted or running."""
    rows = yield Statement(OUTSTANDING, {})
    return {Lane(lane): count for lane, count in rows}


def _hints(rows: list[tuple[Any, ...]]) -> list[Hint]:
    return [Hint(row[0], row[1], Lane(row[2]), Priority(row[3]), row[4]) for row in rows]
