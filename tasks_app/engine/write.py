"""write: what a running attempt puts on record, and its end; every row fenced by the attempt's id (D5).

One statement serves progress, messages, checkpoints, artifacts and the finish, so that a finish carries what was still
unwritten. It is as long as what it has to store: most writes hold neither checkpoint nor artifact, whose part of it
stands in ``engine/artifacts``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from tasks_app.engine import artifacts
from tasks_app.engine.artifacts import append
from tasks_app.engine.core import Statement, Steps
from tasks_app.engine.records import ArtifactRecord, CheckpointRecord, Record, Write, Written
from tasks_app.status import Priority, TaskStatus

# The turn has ended and a message waits for the next one: by columns of the locked row, which are right after any wait.
_NEXT = """item.status IN ('completed', 'input_required', 'auth_required')
                             AND task.inbox_seq > task.consumed_seq"""
# `fenced` is the guard: its WHERE looks only at the locked row, so it is right after any wait.
_HEAD = f"""
WITH item AS (
    SELECT * FROM unnest(
        %(task_id)s::uuid[], %(attempt_id)s::uuid[], %(recorded)s::int[], %(count)s::int[], %(progress)s::float8[],
        %(status)s::text[], %(message)s::bytea[], %(error)s::jsonb[], %(outcome)s::text[], %(traceback)s::text[],
        %(wait_s)s::float8[], %(spend)s::int[], %(peak_rss_bytes)s::bigint[], %(cpu_s)s::float8[],
        %(disk_bytes)s::bigint[]
    ) AS item(task_id, attempt_id, recorded, count, progress, status, message, error, outcome, traceback, wait_s,
              spend, peak_rss_bytes, cpu_s, disk_bytes)
), fenced AS (
    UPDATE tasks_app_task task
    SET generation = task.generation + item.count, recorded = task.recorded + item.count, updated_at = now(),
        progress = CASE WHEN item.status = 'completed' THEN 1 ELSE GREATEST(task.progress, item.progress) END,
        status = CASE WHEN {_NEXT} THEN 'pending' ELSE COALESCE(item.status, task.status) END,
        status_at = CASE WHEN item.status IS NULL THEN task.status_at ELSE now() END,
        consumed_seq = task.consumed_seq + CASE WHEN {_NEXT} THEN 1 ELSE 0 END,
        turn_generation = CASE WHEN {_NEXT} THEN task.generation + item.count ELSE task.turn_generation END,
        status_message = CASE WHEN item.status IS NULL THEN COALESCE(item.message, task.status_message)
                              ELSE item.message END,
        error = CASE WHEN item.status IS DISTINCT FROM 'pending' THEN COALESCE(item.error, task.error) END,
        epoch = task.epoch + CASE WHEN item.status IS NULL THEN 0 ELSE 1 END,
        lease_id = CASE WHEN item.status IS NULL THEN task.lease_id END,
        timeout_at = CASE WHEN item.status IS NULL THEN task.timeout_at END,
        spent = CASE WHEN {_NEXT} THEN 0 ELSE task.spent + item.spend END,
        crashes = CASE WHEN {_NEXT} THEN 0 ELSE task.crashes END,
        run_after = CASE WHEN item.status = 'pending' THEN now() + item.wait_s * interval '1 second'
                         WHEN {_NEXT} THEN now() ELSE task.run_after END,
        input_expires_at = CASE WHEN {_NEXT} THEN NULL
                                WHEN item.status IN ('input_required', 'auth_required')
                                THEN now() + item.wait_s * interval '1 second' END,
        completed_at = CASE WHEN {_NEXT} THEN NULL
                            WHEN item.status IN ('completed', 'failed', 'cancelled', 'rejected') THEN now() END
    FROM item
    WHERE task.id = item.task_id AND task.lease_id = item.attempt_id AND task.recorded = item.recorded
    RETURNING task.id, item.attempt_id, task.generation, task.generation - item.count AS base, task.attempt, task.lane,
              task.agent, task.priority, task.status AS state, task.started_at, item.status, item.outcome, item.error,
              item.traceback, item.peak_rss_bytes, item.cpu_s, item.disk_bytes
), ended AS (
    UPDATE tasks_app_taskattempt attempt
    SET ended_at = now(), released_at = now(), outcome = fenced.outcome, error = fenced.error,
        traceback = fenced.traceback, peak_rss_bytes = fenced.peak_rss_bytes, cpu_s = fenced.cpu_s,
        disk_bytes = fenced.disk_bytes
    FROM fenced WHERE attempt.id = fenced.attempt_id AND fenced.status IS NOT NULL
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, payload, error, attempt, created_at)
    SELECT fenced.id, fenced.base + e.nth, e.kind, CASE e.kind WHEN 'status' THEN fenced.state ELSE e.status END,
           e.progress, e.payload, e.error, fenced.attempt, now()
    FROM unnest(%(e_attempt)s::uuid[], %(e_nth)s::int[], %(e_kind)s::text[], %(e_status)s::text[],
                %(e_progress)s::float8[], %(e_payload)s::bytea[], %(e_error)s::jsonb[])
         AS e(attempt_id, nth, kind, status, progress, payload, error)
    JOIN fenced USING (attempt_id)
)"""  # noqa: S608 (only constants are put in)
_CHECKPOINTS = """, checkpoint AS (
    INSERT INTO tasks_app_checkpoint (task_id, name, data, attempt, generation, created_at)
    SELECT fenced.id, k.name, k.data, fenced.attempt, fenced.base + k.nth, now()
    FROM unnest(%(k_attempt)s::uuid[], %(k_nth)s::int[], %(k_name)s::text[], %(k_data)s::jsonb[])
         AS k(attempt_id, nth, name, data)
    JOIN fenced USING (attempt_id)
    ON CONFLICT (task_id, name) DO UPDATE
    SET data = EXCLUDED.data, attempt = EXCLUDED.attempt, generation = EXCLUDED.generation,
        created_at = EXCLUDED.created_at
)"""
_RESULT = "attempt_id, generation, lane, agent, priority, state, started_at, now()"

# The same write again, after its answer was lost: it stands as it was written. A finish also ended the lease.
REPEATED = """
SELECT item.attempt_id, task.generation, task.lane, task.agent, task.priority, task.status, task.started_at, now()
FROM unnest(%(attempt_id)s::uuid[], %(recorded)s::int[], %(outcome)s::text[]) AS item(attempt_id, recorded, outcome)
JOIN tasks_app_taskattempt attempt ON attempt.id = item.attempt_id
JOIN tasks_app_task task ON task.id = attempt.task_id
WHERE task.recorded = item.recorded
  AND (task.lease_id = attempt.id OR (attempt.outcome = item.outcome AND task.epoch = attempt.epoch + 1))
"""

RELEASE = """
UPDATE tasks_app_taskattempt
SET released_at = now(),
    lease_expires_at = CASE WHEN %(died)s::bool THEN LEAST(lease_expires_at, now() - interval '1 ms')
                            ELSE lease_expires_at END
WHERE id = ANY(%(attempt_id)s::uuid[]) AND released_at IS NULL AND ended_at IS NOT NULL
"""


def write(items: Sequence[Write]) -> Steps[list[Written]]:
    """Puts on record what each attempt says, at most one item per attempt in a list; a :class:`Written` for each.

    A turn that ends well while a message waits leaves the task pending for its next turn, as ``Written.status`` says.
    A finish that is refused releases its attempt's slot: its handler has stopped, whoever ended it before.
    """
    bound = _bind(items, (yield from artifacts.sums(items)))
    sql = _statement(
        checkpoints=bool(bound["k_attempt"]), with_artifacts=bool(bound["a_attempt"]), restores=bool(bound["r_attempt"])
    )
    done = _written((yield Statement(sql, bound)))
    lost = [item for item in items if item.attempt_id not in done]
    if lost:
        done |= _written((yield Statement(REPEATED, _bind_repeated(lost))))
    stopped = [item.attempt_id for item in lost if item.finish and item.attempt_id not in done]
    if stopped:
        yield from release(stopped)
    return [done.get(item.attempt_id, Written(accepted=False)) for item in items]


def release(attempt_ids: Sequence[UUID], *, died: bool = False) -> Steps[None]:
    """Frees the slots of attempts that somebody else ended, now that their handlers have stopped.

    ``died``: with their processes, so that they may have left something. Their leases end before that, as if they had
    not been seen since.
    """
    yield Statement(RELEASE, {"attempt_id": list(attempt_ids), "died": died})


@cache
def _statement(*, checkpoints: bool, with_artifacts: bool, restores: bool) -> str:
    middle = _CHECKPOINTS if checkpoints else ""
    middle += artifacts.WRITE if with_artifacts else ""
    middle += artifacts.RESTORE if restores else ""
    return f"{_HEAD}{middle}\nSELECT {_RESULT} FROM fenced"


def _written(rows: list[tuple[Any, ...]]) -> dict[UUID, Written]:
    return {
        row[0]: Written(
            accepted=True,
            generation=row[1],
            lane=row[2],
            agent=row[3],
            priority=Priority(row[4]),
            status=TaskStatus(row[5]),
            started_at=row[6],
            at=row[7],
        )
        for row in rows
    }


_ITEM = (
    "task_id attempt_id recorded count progress status message error outcome traceback wait_s spend peak_rss_bytes "
    "cpu_s disk_bytes"
)
_EVENT = "e_attempt e_nth e_kind e_status e_progress e_payload e_error"
_CHECKPOINT = "k_attempt k_nth k_name k_data"
_NAMES = f"{_ITEM} {_EVENT} {_CHECKPOINT} {artifacts.NAMES}".split()


def _bind(items: Sequence[Write], sums: artifacts.Sums) -> dict[str, list[Any]]:
    bound: dict[str, list[Any]] = {name: [] for name in _NAMES}
    for item in items:
        progress, message = item.progress, None
        for nth, record in enumerate(item.records, 1):
            kind, payload = _bind_record(bound, item, nth, record)
            if kind in ("progress", "message"):
                progress = max(progress, record.progress or 0.0)  # type: ignore[union-attr]
                message = payload or message
            append(bound, _EVENT, (item.attempt_id, nth, kind, "running", progress, payload, None))
        artifacts.bind(bound, item, sums)
        _bind_item(bound, item, progress, message)
    return bound


def _bind_record(bound: dict[str, list[Any]], item: Write, nth: int, record: Record) -> tuple[str, bytes | None]:
    """The kind and the payload of the record's event."""
    if isinstance(record, ArtifactRecord):
        return "artifact", record.event
    if isinstance(record, CheckpointRecord):
        later = item.records[nth:]
        if not any(isinstance(other, CheckpointRecord) and other.name == record.name for other in later):
            # One row may not be written twice in a statement: of checkpoints of one name the last counts.
            append(bound, _CHECKPOINT, (item.attempt_id, nth, record.name, record.data))
        return "checkpoint", record.name.encode()
    return record.kind, record.message


def _bind_item(bound: dict[str, list[Any]], item: Write, progress: float, message: bytes | None) -> None:
    finish = item.finish
    error = json.dumps(finish.error) if finish and finish.error else None
    if finish:
        message = finish.message
        last = 1.0 if finish.status == TaskStatus.COMPLETED else progress
        event = (item.attempt_id, item.count, "status", finish.status.value, last, finish.message, error)
        append(bound, _EVENT, event)
    values = (
        item.task_id,
        item.attempt_id,
        item.recorded,
        item.count,
        progress,
        finish.status.value if finish else None,
        message,
        error,
        finish.outcome.value if finish else None,
        finish.traceback if finish else None,
        finish.wait_s if finish else None,
        int(finish.spend) if finish else 0,
        finish.usage.peak_rss_bytes if finish else None,
        finish.usage.cpu_s if finish else None,
        finish.usage.disk_bytes if finish else None,
    )
    append(bound, _ITEM, values)


def _bind_repeated(items: Sequence[Write]) -> dict[str, list[Any]]:
    return {
        "attempt_id": [item.attempt_id for item in items],
        "recorded": [item.recorded + item.count for item in items],
        "outcome": [item.finish.outcome.value if item.finish else None for item in items],
    }
