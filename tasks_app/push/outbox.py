"""The verbs of deliveries. The event log is the outbox (D6): a config is due while its task has events past its cursor.

A claim is a lease: it ends at ``next_at``, is moved on by every event that was taken, and whoever has lost it writes
nothing but the log. Database time only.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from tasks_app.engine import files
from tasks_app.engine.claim import decoded
from tasks_app.engine.core import Statement, Steps
from tasks_app.push.values import Attempt, Claimed

# What a config is of: its task, or its batch, whose only event is that it is complete.
_SUBJECT = """LEFT JOIN tasks_app_task task ON task.id = config.task_id
    LEFT JOIN tasks_app_batch batch ON batch.id = config.batch_id AND batch.completed_at IS NOT NULL"""
# Served by push_active_idx: tasks without a config cost nothing, and of the others each is looked up once. Shared out
# by hosts: a config's place is behind those of its host that are claimed or were due before it, and those whose last
# try failed have fewer places, of their own: an endpoint that is away holds up nobody else.
CLAIM = f"""
WITH held AS (
    SELECT host, failures > 0 AS fails, count(*) AS number FROM tasks_app_pushconfig
    WHERE state = 'active' AND claimed_by IS NOT NULL AND next_at > now() GROUP BY 1, 2
), due AS (
    SELECT config.id, config.next_at, config.failures, COALESCE(task.context_id, '') AS context_id,
           COALESCE(task.client_id, batch.client_id) AS client_id,
           row_number() OVER (PARTITION BY config.host, config.failures > 0 ORDER BY config.next_at, config.id)
           + COALESCE(held.number, 0) AS place
    FROM tasks_app_pushconfig config
    {_SUBJECT}
    LEFT JOIN held ON held.host = config.host AND held.fails = (config.failures > 0)
    WHERE config.state = 'active' AND config.next_at <= now()
      AND COALESCE(task.generation, batch.generation) > config.delivered
), chosen AS (
    SELECT config.id, due.context_id, due.client_id FROM due JOIN tasks_app_pushconfig config ON config.id = due.id
    WHERE due.place <= CASE WHEN due.failures = 0 THEN %(per_host)s::int ELSE %(per_failing_host)s::int END
      AND config.state = 'active' AND config.next_at <= now()
    ORDER BY due.next_at LIMIT %(limit)s::int
    FOR UPDATE OF config SKIP LOCKED
)
UPDATE tasks_app_pushconfig config
SET claimed_by = %(claim)s::uuid, next_at = now() + %(lease_s)s::float8 * interval '1 second'
FROM chosen WHERE config.id = chosen.id
RETURNING config.id, config.task_id, config.batch_id, config.config_id, chosen.context_id, config.url, config.host,
          config.token, config.scheme, config.credentials, config.delivered, config.failures,
          ARRAY(SELECT secret FROM tasks_app_webhooksecret
                WHERE client_id = chosen.client_id AND (expires_at IS NULL OR expires_at > now())
                ORDER BY created_at DESC)
"""  # noqa: S608 (only constants are put in)
# Whatever became of the claim: it was sent. Not after its task was pruned: nobody would prune it again.
_LOG = """
WITH log AS (
    INSERT INTO tasks_app_pushdelivery
        (id, task_id, batch_id, config, config_id, host, generation, number, at, duration_s, status_code, error)
    SELECT %(attempt_id)s::uuid, %(task_id)s::uuid, %(batch_id)s::uuid, %(id)s::uuid, %(config_id)s::text,
           %(host)s::text, %(generation)s::int, %(number)s::int, now(), %(duration_s)s::float8,
           %(status_code)s::smallint, %(error)s::text
    WHERE EXISTS (SELECT FROM tasks_app_task WHERE id = %(task_id)s)
       OR EXISTS (SELECT FROM tasks_app_batch WHERE id = %(batch_id)s)
    ON CONFLICT (id) DO NOTHING
)"""
ADVANCE = f"""{_LOG}
UPDATE tasks_app_pushconfig config
SET delivered = %(generation)s::int, failures = 0, last_error = '',
    state = CASE WHEN ended.is_so THEN 'done' ELSE 'active' END,
    claimed_by = CASE WHEN ended.is_so THEN NULL ELSE config.claimed_by END,
    next_at = now() + %(lease_s)s::float8 * interval '1 second'
FROM (SELECT completed_at IS NOT NULL AND generation = %(generation)s::int AS is_so
      FROM tasks_app_task WHERE id = %(task_id)s
      UNION ALL SELECT generation = %(generation)s::int FROM tasks_app_batch WHERE id = %(batch_id)s) ended
WHERE config.id = %(id)s AND config.claimed_by = %(claim)s
RETURNING config.state
"""  # noqa: S608 (only constants are put in)
FAIL = f"""{_LOG}
UPDATE tasks_app_pushconfig
SET failures = failures + 1, last_error = %(error)s::text, claimed_by = NULL,
    next_at = now() + %(wait_s)s::float8 * interval '1 second',
    state = CASE WHEN %(dead)s::bool THEN 'dead' ELSE 'active' END, dead_at = CASE WHEN %(dead)s::bool THEN now() END
WHERE id = %(id)s AND claimed_by = %(claim)s
"""  # noqa: S608
RELEASE = """
UPDATE tasks_app_pushconfig SET claimed_by = NULL, next_at = now() WHERE id = %(id)s AND claimed_by = %(claim)s
"""
RESUME = """
UPDATE tasks_app_pushconfig config
SET state = 'active', failures = 0, dead_at = NULL, claimed_by = NULL, next_at = now(),
    delivered = LEAST(config.delivered, COALESCE(item.generation - 1, config.delivered))
FROM unnest(%(id)s::uuid[], %(generation)s::int[]) AS item(id, generation)
WHERE config.id = item.id AND (config.state = 'dead' OR item.generation IS NOT NULL)
RETURNING config.id
"""
COMPLETED = """
SELECT id, name, size, jsonb_array_length(refused), counts, metadata, created_at, completed_at, generation
FROM tasks_app_batch
WHERE id = %(batch_id)s AND completed_at IS NOT NULL AND generation > %(after)s
"""
ACCEPTED = "SELECT metadata, message FROM tasks_app_taskrequest WHERE task_id = %(task_id)s"
#: As much of an error is kept.
ERROR_MAX_CHARS = 500


def claim(*, limit: int, per_host: int, per_failing_host: int, lease_s: float) -> Steps[list[Claimed]]:
    """Up to ``limit`` configs whose next event is due, those first that have waited longest.

    Of one host no more than ``per_host`` are claimed at once (a few more if two claim at the same instant), and no more
    than ``per_failing_host`` of those whose last try failed.
    """
    mine = uuid4()
    params = {"claim": mine, "limit": limit, "per_host": per_host, "per_failing_host": per_failing_host}
    rows = yield Statement(CLAIM, {**params, "lease_s": lease_s})
    return [_claimed(row, mine) for row in rows]


def advance(held: Claimed, attempt: Attempt, *, lease_s: float) -> Steps[bool]:
    """The event was taken: moves the cursor on. Whether the claim goes on: it was not lost, and more may come."""
    rows = yield Statement(ADVANCE, _attempted(held, attempt) | {"lease_s": lease_s})
    return bool(rows) and rows[0][0] == "active"


def fail(held: Claimed, attempt: Attempt, *, wait_s: float, dead: bool) -> Steps[None]:
    """The event was not taken: it is tried again after ``wait_s``, or not at all if ``dead``. Ends the claim."""
    yield Statement(FAIL, _attempted(held, attempt) | {"wait_s": wait_s, "dead": dead})


def release(held: Claimed) -> Steps[None]:
    """Ends the claim: nothing is to be sent now, or others are to have their turn."""
    yield Statement(RELEASE, {"id": held.id, "claim": held.claim})


def resume(generations: dict[UUID, int | None]) -> Steps[list[UUID]]:
    """Delivers from these configs again, by their own ids: from a generation on, or, if they are dead, where they were.

    Ends the claims on them. The ids of those that it changed.
    """
    params = {"id": list(generations), "generation": list(generations.values())}
    rows = yield Statement(RESUME, params)
    return [row[0] for row in rows]


def accepted(task_id: UUID) -> Steps[tuple[Any, bytes] | None]:
    """The metadata and the message of the request that made the task; None if it was pruned."""
    rows = yield Statement(ACCEPTED, {"task_id": task_id})
    if not rows:
        return None
    ((message,),) = yield from files.filled([(task_id, [bytes(rows[0][1])])])
    return decoded(rows[0][0]), message


def completed(batch_id: UUID, *, after: int) -> Steps[tuple[int, dict[str, Any]] | None]:
    """The batch's newest completion, by its number and as it is told; None if there is none past ``after`` now."""
    rows = yield Statement(COMPLETED, {"batch_id": batch_id, "after": after})
    if not rows:
        return None
    *values, created_at, completed_at, generation = rows[0]
    told = dict(zip(("id", "name", "size", "refused", "counts", "metadata"), values, strict=True))
    told |= {"counts": decoded(told["counts"]), "metadata": decoded(told["metadata"])}
    return generation, {**told, "created_at": created_at, "completed_at": completed_at}


def _attempted(held: Claimed, attempt: Attempt) -> dict[str, Any]:
    return {
        "id": held.id,
        "claim": held.claim,
        "task_id": held.task_id,
        "batch_id": held.batch_id,
        "config_id": held.config_id,
        "host": held.host,
        "attempt_id": attempt.id,
        "generation": attempt.generation,
        "number": attempt.number,
        "duration_s": attempt.duration_s,
        "status_code": attempt.status_code,
        "error": attempt.error[:ERROR_MAX_CHARS],
    }


def _claimed(row: tuple[Any, ...], mine: UUID) -> Claimed:
    return Claimed(
        id=row[0],
        claim=mine,
        task_id=row[1],
        batch_id=row[2],
        config_id=row[3],
        context_id=row[4],
        url=row[5],
        host=row[6],
        token=None if row[7] is None else bytes(row[7]),
        scheme=row[8],
        credentials=None if row[9] is None else bytes(row[9]),
        delivered=row[10],
        failures=row[11],
        secrets=tuple(bytes(secret) for secret in row[12]),
    )
