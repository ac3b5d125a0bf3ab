"""resolve: what becomes of tasks that need others, once those have ended.

A task that needs others counts those that have not completed; nothing admits it before there are none. Their ends are
found by this sweep and by nobody else, so that none is counted twice and none overtakes the making of a task.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from uuid import UUID

from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.engine.expire import FAIL
from tasks_app.engine.loss import moved
from tasks_app.engine.records import Moved
from tasks_app.status import TaskStatus

# Served by dependency_open_idx. Two sweeps at once take different ones; one that is gone was not seen to complete.
ENDED = """
SELECT dependency.task_id, dependency.needs_id, needed.status
FROM tasks_app_taskdependency dependency LEFT JOIN tasks_app_task needed ON needed.id = dependency.needs_id
WHERE dependency.settled_at IS NULL AND (needed.id IS NULL OR needed.completed_at IS NOT NULL)
ORDER BY dependency.task_id, dependency.needs_id LIMIT %(limit)s::int
FOR UPDATE OF dependency SKIP LOCKED
"""
WAITS = "SELECT EXISTS (SELECT FROM tasks_app_taskdependency WHERE settled_at IS NULL)"
SETTLED = """
UPDATE tasks_app_taskdependency dependency SET settled_at = now()
FROM unnest(%(task_id)s::uuid[], %(needs_id)s::uuid[]) AS item(task_id, needs_id)
WHERE dependency.task_id = item.task_id AND dependency.needs_id = item.needs_id
"""
# Its time to start counts from when nothing is left, and goes with it.
COUNTED = """
UPDATE tasks_app_task task
SET deps_left = task.deps_left - item.number, updated_at = now(), run_after = GREATEST(task.run_after, now()),
    start_deadline_at = task.start_deadline_at + (GREATEST(task.run_after, now()) - task.run_after)
FROM unnest(%(task_id)s::uuid[], %(number)s::int[]) AS item(task_id, number)
WHERE task.id = item.task_id AND task.status = 'pending'
RETURNING task.id, task.lane, task.agent, task.priority::int, task.client_id, task.deps_left
"""
FAILED = f"""
WITH expired AS (
    SELECT id, lease_id FROM tasks_app_task
    WHERE id = ANY(%(task_id)s::uuid[]) AND status = 'pending' AND deps_left > 0 ORDER BY id FOR UPDATE
){FAIL}
"""  # noqa: S608 (only constants are put in)
# Of a task that has none left all have completed, whatever has become of them since.
NEEDS = """
SELECT dependency.task_id, dependency.needs_id
FROM tasks_app_taskdependency dependency JOIN tasks_app_task task ON task.id = dependency.task_id
WHERE dependency.task_id = ANY(%(task_id)s::uuid[]) AND task.deps_left > 0
ORDER BY dependency.task_id, dependency.needs_id
"""
#: Of tasks that are needed: the newest that repeats each, and its state.
STAND = """
WITH RECURSIVE line AS (
    SELECT id AS needs_id, id, status FROM tasks_app_task WHERE id = ANY(%(task_id)s::uuid[])
    UNION ALL
    SELECT line.needs_id, again.id, again.status
    FROM line JOIN tasks_app_task again ON again.rerun_of_id = line.id
)
SELECT DISTINCT ON (needs_id) needs_id, id, status FROM line ORDER BY needs_id, id DESC
"""


@dataclass(frozen=True, slots=True)
class Freed:
    """A task that needs nothing any more, by what is rung for it."""

    id: UUID
    lane: str
    agent: str
    priority: int
    client_id: int


@dataclass(slots=True)
class Resolved:
    """What a sweep did. ``waits``: there are tasks that wait for others."""

    waits: bool = False
    freed: list[Freed] = field(default_factory=list)
    failed: list[Moved] = field(default_factory=list)


@transactional
def resolve(*, limit: int = 500) -> Steps[Resolved]:
    """Counts up to ``limit`` tasks that others need and that have completed, and fails those whose need has failed."""
    found = Resolved()
    rows = yield Statement(ENDED, {"limit": limit})
    if not rows:
        found.waits = (yield Statement(WAITS, {}))[0][0]
        return found
    found.waits = True
    yield Statement(SETTLED, {"task_id": [row[0] for row in rows], "needs_id": [row[1] for row in rows]})
    met: dict[UUID, int] = {}
    for task_id, needs_id, status in rows:
        if status == TaskStatus.COMPLETED:
            met[task_id] = met.get(task_id, 0) + 1
        else:
            said = f"task {needs_id}, which it needs, is {status or 'gone'}"
            error = json.dumps({"code": "dependency_failed", "message": said})
            found.failed += moved((yield Statement(FAILED, {"task_id": [task_id], "error": error})))
    if met:
        bound = {"task_id": sorted(met), "number": [met[task_id] for task_id in sorted(met)]}
        for *values, left in (yield Statement(COUNTED, bound)):
            if not left:
                found.freed.append(Freed(*values))
    return found


def needed(task_ids: list[UUID]) -> Steps[dict[UUID, list[UUID]]]:
    """What each of these tasks needs."""
    found: dict[UUID, list[UUID]] = {}
    for task_id, needs_id in (yield Statement(NEEDS, {"task_id": task_ids})):
        found.setdefault(task_id, []).append(needs_id)
    return found


def again(needs: dict[UUID, list[UUID]], reruns: dict[UUID, UUID]) -> Steps[dict[UUID, dict[UUID, UUID]]]:
    """By task, what a rerun of it needs in place of what it needed: the newest that repeats that, or is about to.

    What has completed is left out. ``reruns`` are the ids of those that are made now, by what they repeat.
    """
    every = sorted({needs_id for found in needs.values() for needs_id in found})
    stands: dict[UUID, tuple[UUID, str]] = {}
    if every:
        stands = {row[0]: (row[1], row[2]) for row in (yield Statement(STAND, {"task_id": every}))}
    made: dict[UUID, dict[UUID, UUID]] = {}
    for task_id, found in needs.items():
        for needs_id in found:
            newest, status = stands.get(needs_id, (needs_id, ""))
            if newest in reruns:
                made.setdefault(task_id, {})[needs_id] = reruns[newest]
            elif status != TaskStatus.COMPLETED:
                made.setdefault(task_id, {})[needs_id] = newest
    return made
