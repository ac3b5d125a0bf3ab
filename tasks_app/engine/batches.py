"""Batches: the rows that hold tasks together, when they are complete, and who holds their places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import uuid_utils.compat

from tasks_app.engine.core import Statement, Steps, transactional


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """A batch to open; already validated. Without a ``key`` no other request is the same. ``size`` counts its items."""

    client_id: int
    digest: bytes
    size: int
    key: str = ""
    name: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid_utils.compat.uuid7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The batch that stands for the request.

    ``repeated``: since before. ``conflict``: it was made by another request under the same key, so that nothing was.
    """

    batch_id: UUID
    repeated: bool = False
    conflict: bool = False


OPEN = """
INSERT INTO tasks_app_batch (id, client_id, name, key, digest, metadata, size, refused, pruned, created_at, generation)
VALUES (%(id)s::uuid, %(client_id)s::bigint, %(name)s::text, %(key)s::text, %(digest)s::bytea, %(metadata)s::jsonb,
        %(size)s::int, '[]', '{}', now(), 0)
ON CONFLICT (client_id, key) WHERE key <> '' DO NOTHING
RETURNING id
"""
# A statement of its own, because the first one's snapshot does not see a row that was committed meanwhile.
FIND = """
SELECT id, digest FROM tasks_app_batch WHERE client_id = %(client_id)s AND key = %(key)s::text AND key <> ''
"""
REFUSE = "UPDATE tasks_app_batch SET refused = %(refused)s::jsonb WHERE id = %(id)s"
_HOLDS = "task.batch_id = batch.id AND task.batch_index IS NOT NULL"
# How the tasks of the batch `item` stand, with those that were deleted.
_STATES = """
    SELECT task.status, count(*) AS number, max(task.completed_at) AS at,
           sum(CASE WHEN task.completed_at IS NULL THEN task.progress ELSE 1 END) AS progress
    FROM tasks_app_task task WHERE task.batch_id = item.id AND task.batch_index IS NOT NULL GROUP BY task.status
    UNION ALL
    SELECT pruned.key, pruned.value::bigint, NULL, pruned.value::float8
    FROM tasks_app_batch own, jsonb_each_text(own.pruned) pruned WHERE own.id = item.id
"""
# Served by batch_open_idx, and for each batch one look at task_batch_open_idx.
_IS_COMPLETE = f"NOT EXISTS (SELECT FROM tasks_app_task task WHERE {_HOLDS} AND task.completed_at IS NULL)"
COMPLETE = f"""
SELECT id FROM tasks_app_batch batch WHERE completed_at IS NULL AND {_IS_COMPLETE}
ORDER BY id LIMIT %(limit)s::int FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608 (only constants are put in)
# Looked at again under the lock: the snapshot of the statement that took it may be older than a rerun.
# Its webhook is due by that; who still sends it an older completion has lost the claim.
SETTLE = f"""
WITH settled AS (
UPDATE tasks_app_batch batch
SET completed_at = ended.at, counts = ended.counts, generation = generation + 1
FROM unnest(%(id)s::uuid[]) AS item(id), LATERAL (
    SELECT max(state.at) AS at, jsonb_object_agg(state.status, state.number) AS counts FROM (
        SELECT each.status, sum(each.number) AS number, max(each.at) AS at FROM ({_STATES}) each GROUP BY each.status
    ) state
) ended
WHERE batch.id = item.id AND ended.at IS NOT NULL AND {_IS_COMPLETE}
RETURNING batch.id
), due AS (
    UPDATE tasks_app_pushconfig SET state = 'active', claimed_by = NULL, failures = 0, next_at = now()
    WHERE batch_id IN (SELECT id FROM settled) AND state IN ('active', 'done')
)
SELECT id FROM settled
"""  # noqa: S608
COUNT = f"""
SELECT item.id, each.status, sum(each.number)::int, sum(each.progress)::float8
FROM unnest(%(id)s::uuid[]) AS item(id), LATERAL ({_STATES}) each
GROUP BY 1, 2
"""  # noqa: S608
# Keeps the counts of these tasks, which are about to be deleted. Their batches are locked.
KEEP_COUNTS = """
WITH gone AS (
    SELECT batch_id, status, count(*) AS number FROM tasks_app_task
    WHERE id = ANY(%(task_id)s::uuid[]) AND batch_index IS NOT NULL GROUP BY 1, 2
), summed AS (
    SELECT batch_id, status, sum(number)::bigint AS number FROM (
        SELECT batch_id, status, number FROM gone
        UNION ALL
        SELECT batch.id, before.key, before.value::bigint
        FROM tasks_app_batch batch, jsonb_each_text(batch.pruned) before
        WHERE batch.id IN (SELECT batch_id FROM gone)
    ) every GROUP BY 1, 2
)
UPDATE tasks_app_batch batch SET pruned = kept.pruned
FROM (SELECT batch_id, jsonb_object_agg(status, number) AS pruned FROM summed GROUP BY 1) kept
WHERE batch.id = kept.batch_id
"""
# The batches of these tasks: only one rerun takes each place, and only one sweep deletes their last tasks at a time.
LOCK = """
SELECT id FROM tasks_app_batch
WHERE id IN (SELECT batch_id FROM tasks_app_task WHERE id = ANY(%(task_id)s::uuid[])) ORDER BY id FOR NO KEY UPDATE
"""
VACATE = """
UPDATE tasks_app_task task SET batch_index = NULL
FROM (SELECT id, batch_id, batch_index FROM tasks_app_task
      WHERE id = ANY(%(task_id)s::uuid[]) AND batch_index IS NOT NULL FOR NO KEY UPDATE) held
WHERE task.id = held.id
RETURNING held.id, held.batch_id, held.batch_index
"""
RETURN = """
UPDATE tasks_app_task task SET batch_index = item.batch_index
FROM unnest(%(id)s::uuid[], %(batch_index)s::int[]) AS item(id, batch_index) WHERE task.id = item.id
"""
REOPEN = """
UPDATE tasks_app_batch SET completed_at = NULL, counts = NULL WHERE id = ANY(%(id)s::uuid[])
"""

#: A task's place: its batch and its number there.
Place = tuple[UUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The tasks that hold places of a batch, or did until they were deleted.

    How many by state, and the sum of their progress; 1 for one that ended.
    """

    counts: dict[str, int] = field(default_factory=dict)
    progress: float = 0.0


def open_batch(new: NewBatch) -> Steps[Opened]:
    """The batch, made, or the one that was made under this key before. Waits for whoever makes one under it now."""
    params = {name: getattr(new, name) for name in ("id", "client_id", "name", "key", "digest", "size")}
    if (yield Statement(OPEN, params | {"metadata": json.dumps(new.metadata)})):
        return Opened(batch_id=new.id)
    return (yield from find_batch(new)) or Opened(batch_id=new.id, conflict=True)


def find_batch(new: NewBatch) -> Steps[Opened | None]:
    """The batch that was made under this key before; None if there is none, or no key."""
    if not new.key:
        return None
    rows = yield Statement(FIND, {"client_id": new.client_id, "key": new.key})
    if not rows:
        return None
    batch_id, digest = rows[0]
    return Opened(batch_id=batch_id, repeated=True, conflict=bytes(digest) != new.digest)


def refuse(batch_id: UUID, refused: Sequence[dict[str, Any]]) -> Steps[None]:
    """Says in the batch which of its items were not accepted, and why."""
    yield Statement(REFUSE, {"id": batch_id, "refused": json.dumps(list(refused))})


@transactional
def settle(*, limit: int = 100) -> Steps[list[UUID]]:
    """Completes up to ``limit`` batches of which every task has ended; their ids. Two at once settle different ones."""
    batch_ids = [row[0] for row in (yield Statement(COMPLETE, {"limit": limit}))]
    if not batch_ids:
        return []
    return [row[0] for row in (yield Statement(SETTLE, {"id": batch_ids}))]


def tally(batch_ids: Sequence[UUID]) -> Steps[dict[UUID, Tally]]:
    """How the tasks of each batch stand."""
    found = {batch_id: Tally() for batch_id in batch_ids}
    for batch_id, status, number, progress in (yield Statement(COUNT, {"id": list(batch_ids)})):
        before = found[batch_id]
        found[batch_id] = Tally(counts={**before.counts, status: number}, progress=before.progress + progress)
    return found


def vacate(task_ids: Sequence[UUID]) -> Steps[dict[UUID, Place]]:
    """Takes the tasks from their places, for reruns of them; the places by task. Locks the batches."""
    yield Statement(LOCK, {"task_id": list(task_ids)})
    return {row[0]: (row[1], row[2]) for row in (yield Statement(VACATE, {"task_id": sorted(task_ids)}))}


def occupied(taken: dict[UUID, Place], left: dict[UUID, Place]) -> Steps[None]:
    """Ends what :func:`vacate` began: reruns have ``taken`` these places, and to those that are ``left`` the tasks
    return. Batches of which one was taken are no longer complete."""
    if left:
        params = {"id": list(left), "batch_index": [index for _, index in left.values()]}
        yield Statement(RETURN, params)
    if taken:
        yield Statement(REOPEN, {"id": list({batch_id for batch_id, _ in taken.values()})})
