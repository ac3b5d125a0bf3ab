"""prune: deletes what ended long ago, with its events, attempts, checkpoints, artifacts and notifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from tasks_app.engine import batches
from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.status import TERMINAL, TaskStatus

#: How long what has ended is kept, by its state, in seconds.
KeepS = Mapping[TaskStatus, float | None]

# Served by task_agent_ended_idx, by which the agents are found too: what one keeps for long is not read for the others.
# Two sweeps at once take different tasks; a handler that still runs keeps its task, a batch that is not complete all.
PICK = """
WITH RECURSIVE known AS (
    (SELECT agent FROM tasks_app_task WHERE completed_at IS NOT NULL ORDER BY agent LIMIT 1)
    UNION ALL
    SELECT (SELECT agent FROM tasks_app_task WHERE completed_at IS NOT NULL AND agent > known.agent
            ORDER BY agent LIMIT 1)
    FROM known WHERE known.agent IS NOT NULL
), kept AS (
    SELECT known.agent, state.status, CASE WHEN own.agent IS NULL THEN state.age_s ELSE own.age_s END AS age_s
    FROM known CROSS JOIN unnest(%(status)s::text[], %(age_s)s::float8[]) AS state(status, age_s)
    LEFT JOIN unnest(%(own_agent)s::text[], %(own_status)s::text[], %(own_age_s)s::float8[])
              AS own(agent, status, age_s) ON own.agent = known.agent AND own.status = state.status
    WHERE known.agent IS NOT NULL
)
SELECT task.id FROM kept, LATERAL (
    SELECT id FROM tasks_app_task
    WHERE tasks_app_task.agent = kept.agent AND tasks_app_task.status = kept.status AND completed_at IS NOT NULL
      AND completed_at < now() - kept.age_s * interval '1 second'
      AND NOT EXISTS (SELECT FROM tasks_app_taskattempt WHERE task_id = tasks_app_task.id AND released_at IS NULL)
      AND NOT EXISTS (SELECT FROM tasks_app_batch batch WHERE batch.id = batch_id AND batch.completed_at IS NULL)
    ORDER BY completed_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) task
LIMIT %(limit)s
"""
# A rerun outlives what it repeats, and no longer names it.
FORGET = "UPDATE tasks_app_task SET rerun_of_id = NULL WHERE rerun_of_id = ANY(%(task_id)s::uuid[])"
DELETE = """
WITH chunk AS (DELETE FROM artifacts_app_artifactchunk WHERE task_id = ANY(%(task_id)s::uuid[]) RETURNING blob_id),
file AS (DELETE FROM artifacts_app_messagefile WHERE task_id = ANY(%(task_id)s::uuid[]) RETURNING blob_id),
named AS (
    SELECT id FROM artifacts_app_blob WHERE id IN (SELECT blob_id FROM chunk UNION SELECT blob_id FROM file)
    ORDER BY id FOR NO KEY UPDATE
),
blob AS (UPDATE artifacts_app_blob SET collect_at = GREATEST(collect_at, now()) WHERE id IN (SELECT id FROM named)),
artifact AS (DELETE FROM artifacts_app_artifact WHERE task_id = ANY(%(task_id)s::uuid[])),
event AS (DELETE FROM tasks_app_taskevent WHERE task_id = ANY(%(task_id)s::uuid[])),
checkpoint AS (DELETE FROM tasks_app_checkpoint WHERE task_id = ANY(%(task_id)s::uuid[])),
inbox AS (DELETE FROM tasks_app_inboxmessage WHERE task_id = ANY(%(task_id)s::uuid[])),
attempt AS (DELETE FROM tasks_app_taskattempt WHERE task_id = ANY(%(task_id)s::uuid[])),
delivery AS (DELETE FROM tasks_app_pushdelivery WHERE task_id = ANY(%(task_id)s::uuid[])),
push AS (DELETE FROM tasks_app_pushconfig WHERE task_id = ANY(%(task_id)s::uuid[])),
dependency AS (DELETE FROM tasks_app_taskdependency WHERE task_id = ANY(%(task_id)s::uuid[])),
fire AS (DELETE FROM tasks_app_fire WHERE task_id = ANY(%(task_id)s::uuid[])),
request AS (DELETE FROM tasks_app_taskrequest WHERE task_id = ANY(%(task_id)s::uuid[]))
DELETE FROM tasks_app_task WHERE id = ANY(%(task_id)s::uuid[])
"""
# After the batches were locked, in statements of their own: of two sweeps the second sees what the first has deleted.
EMPTY = """
WITH empty AS (
    SELECT id FROM tasks_app_batch batch
    WHERE id = ANY(%(id)s::uuid[]) AND completed_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM tasks_app_task WHERE batch_id = batch.id)
), delivery AS (DELETE FROM tasks_app_pushdelivery WHERE batch_id IN (SELECT id FROM empty)),
push AS (DELETE FROM tasks_app_pushconfig WHERE batch_id IN (SELECT id FROM empty))
DELETE FROM tasks_app_batch WHERE id IN (SELECT id FROM empty)
"""


@transactional
def prune(keep_s: KeepS, *, own: Mapping[str, KeepS] | None = None, limit: int = 500) -> Steps[list[UUID]]:
    """Deletes up to ``limit`` tasks that :func:`prunable` finds; their ids. A batch goes with its last task."""
    task_ids = yield from prunable(keep_s, own=own, limit=limit)
    yield from delete(task_ids)
    return task_ids


def prunable(keep_s: KeepS, *, own: Mapping[str, KeepS] | None = None, limit: int) -> Steps[list[UUID]]:
    """Up to ``limit`` tasks that ended longer ago than ``keep_s`` of their state says, locked; their ids.

    ``own`` is what holds for an agent instead, of the states that it names. What is None, or a state that neither
    names, is kept for ever.
    """
    ours = [(agent, status.value, age_s) for agent, kept in (own or {}).items() for status, age_s in kept.items()]
    params: dict[str, Any] = {
        "status": [status.value for status in TERMINAL],
        "age_s": [keep_s.get(status) for status in TERMINAL],
        "own_agent": [agent for agent, _, _ in ours],
        "own_status": [status for _, status, _ in ours],
        "own_age_s": [age_s for _, _, age_s in ours],
        "limit": limit,
    }
    return [row[0] for row in (yield Statement(PICK, params))]


def delete(task_ids: Sequence[UUID]) -> Steps[None]:
    """Deletes these tasks with all that belongs to them, within the transaction that has locked them."""
    if not task_ids:
        return
    params = {"task_id": list(task_ids)}
    yield Statement(FORGET, params)
    batch_ids = [row[0] for row in (yield Statement(batches.LOCK, params))]
    if batch_ids:
        yield Statement(batches.KEEP_COUNTS, params)
    yield Statement(DELETE, params)
    if batch_ids:
        yield Statement(EMPTY, {"id": batch_ids})
