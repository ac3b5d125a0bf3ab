"""leftovers: what handlers left under way elsewhere, of tasks that others ended while none of them ran.

The handler of a running task is told to stop and ends such things itself; where there is none, or it dies with its
process before it says that it has stopped, a sweep asks here. What it did stands in the checkpoint, which nobody else
writes once the task has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from tasks_app.engine.claim import decoded
from tasks_app.engine.core import Statement, Steps

#: How tasks fail that no handler of theirs ended: nobody answered in time, or one process after the other was lost.
CODES = ("input_expired", "attempts_exhausted")


class Leftover(NamedTuple):
    """``data`` is the checkpoint as its handler left it."""

    task_id: UUID
    agent: str
    data: dict[str, Any]


# Served by task_agent_ended_idx. Two sweeps at once take different ones, and none is taken again before its time.
TAKE = """
WITH ended AS MATERIALIZED (
    SELECT id, agent, completed_at FROM tasks_app_task
    WHERE (status = 'cancelled' OR status = 'failed' AND error ->> 'code' = ANY(%(codes)s::text[]))
      AND completed_at IS NOT NULL
      AND completed_at > now() - %(within_s)s * interval '1 second' AND agent = ANY(%(agent)s::text[])
), due AS (
    SELECT ended.id, ended.agent FROM ended
    JOIN tasks_app_checkpoint left_by ON left_by.task_id = ended.id AND left_by.name = %(name)s
    WHERE left_by.data #> '{cancel,outcome}' IS NULL
      AND COALESCE((left_by.data #>> '{cancel,tried_s}')::float8, 0) <= extract(epoch FROM now())::float8 - %(again_s)s
      AND NOT EXISTS (
          SELECT FROM tasks_app_taskattempt WHERE task_id = ended.id AND outcome = 'cancelled'
          AND (released_at IS NULL OR released_at <= lease_expires_at))
    ORDER BY ended.completed_at LIMIT %(limit)s
    FOR UPDATE OF left_by SKIP LOCKED
)
UPDATE tasks_app_checkpoint left_by
SET data = left_by.data || jsonb_build_object('cancel', jsonb_build_object('tried_s', extract(epoch FROM now())))
FROM due WHERE left_by.task_id = due.id AND left_by.name = %(name)s
RETURNING due.id, due.agent, left_by.data
"""
NOTE = """
UPDATE tasks_app_checkpoint left_by SET data = jsonb_set(left_by.data, ARRAY['cancel', item.field], to_jsonb(item.what))
FROM unnest(%(task_id)s::uuid[], %(field)s::text[], %(what)s::text[]) AS item(task_id, field, what)
WHERE left_by.task_id = item.task_id AND left_by.name = %(name)s AND left_by.data ? 'cancel'
"""


def leftovers(
    agents: Sequence[str], *, name: str, within_s: float, again_s: float, limit: int
) -> Steps[list[Leftover]]:
    """Takes checkpoints of this name whose tasks of these agents were cancelled, or failed, while no attempt ran.

    For ``within_s`` after that, each again after ``again_s`` until :func:`left` says what became of it.
    """
    params = {"agent": list(agents), "name": name, "within_s": within_s, "again_s": again_s, "limit": limit}
    params["codes"] = list(CODES)
    return [Leftover(row[0], row[1], decoded(row[2])) for row in (yield Statement(TAKE, params))]


def left(found: Mapping[UUID, tuple[str, str]], *, name: str) -> Steps[None]:
    """Puts on record what became of leftovers: an ``outcome``, or an ``error`` after which they are tried again."""
    params = {
        "task_id": list(found),
        "field": [field for field, _ in found.values()],
        "what": [what for _, what in found.values()],
        "name": name,
    }
    yield Statement(NOTE, params)
