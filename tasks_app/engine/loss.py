"""lose and rescue: attempts that somebody else ends; their tasks are pending again, or failed when nothing is left.

``lose`` is for those who know what became of an attempt: its worker, whose child died or which shuts down. ``rescue``
is the sweep over leases that nobody extended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from tasks_app.engine.core import Statement, Steps
from tasks_app.engine.records import UNMEASURED, Moved, Usage
from tasks_app.engine.write import release
from tasks_app.models.attempt import Outcome
from tasks_app.models.worker import silent_after_s
from tasks_app.status import Priority, TaskStatus

#: A task that lost this many processes it shared with others runs in one of its own next.
CRASHES_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """An attempt that did not end by itself, and why. ``code`` and ``message`` are for its client and its operator.

    ``released``: whether its handler has stopped; if not, its slot stays taken until :func:`~tasks_app.engine.release`.
    ``spend``: whether it counts against the task's attempts. ``final``: the task has failed, whatever is left.
    """

    attempt_id: UUID
    outcome: Outcome
    code: str
    message: str
    released: bool = True
    spend: bool = True
    final: bool = False
    usage: Usage = UNMEASURED


# Both lock the task before the attempt, as every writer does. The guard on lease_id is on the locked row: of a loss and
# a finish at the same time, one wins. A process that was killed because its attempt ran too long has not been lost.
_KNOWN = """
WITH item AS (
    SELECT * FROM unnest(%(attempt_id)s::uuid[], %(outcome)s::text[], %(code)s::text[], %(message)s::text[],
                         %(released)s::bool[], %(spend)s::bool[], %(final)s::bool[], %(peak_rss_bytes)s::bigint[],
                         %(cpu_s)s::float8[], %(disk_bytes)s::bigint[])
         AS item(attempt_id, outcome, code, message, released, spend, final, peak_rss_bytes, cpu_s, disk_bytes)
), lost AS (
    SELECT task.id, task.lane AS held_lane, task.attempt, task.spent, task.max_attempts, item.*, false AS crash,
           false AS alone,
           item.outcome = 'process_lost' AND task.timeout_at <= now() AS late
    FROM item
    JOIN tasks_app_taskattempt attempt ON attempt.id = item.attempt_id
    JOIN tasks_app_task task ON task.lease_id = attempt.id AND task.id = attempt.task_id
    ORDER BY task.id
    FOR UPDATE OF task
)"""
_EXPIRED = """
WITH expired AS (
    SELECT id, task_id, count(*) OVER (PARTITION BY worker, pid) > 1 AS shared FROM tasks_app_taskattempt
    WHERE released_at IS NULL AND ended_at IS NULL AND lease_expires_at < now()
), lost AS (
    SELECT task.id, task.lane AS held_lane, task.attempt, task.spent, task.max_attempts, expired.id AS attempt_id,
           'lease_expired' AS outcome, 'lease_expired' AS code,
           'its worker did not extend the lease in time' AS message, true AS released,
           NOT (expired.shared AND task.crashes < %(crashes_max)s) AS spend, false AS final,
           NULL::bigint AS peak_rss_bytes, NULL::float8 AS cpu_s, NULL::bigint AS disk_bytes, expired.shared AS crash,
           expired.shared AND task.crashes + 1 >= %(crashes_max)s AND EXISTS (
               SELECT FROM tasks_app_worker WHERE lane = 'cpu' AND state = 'online'
               AND heartbeat_at > now() - %(silent_s)s * interval '1 second') AS alone,
           false AS late
    FROM expired JOIN tasks_app_task task ON task.lease_id = expired.id AND task.id = expired.task_id
    ORDER BY task.id LIMIT %(limit)s
    FOR UPDATE OF task SKIP LOCKED
)"""
_MOVE = """, judged AS (
    SELECT lost.*, final OR late OR (spend AND spent + 1 >= max_attempts) AS fails,
           CASE WHEN late
                THEN jsonb_build_object('code', 'timeout', 'message', 'ran longer than its timeout, and was killed')
                ELSE jsonb_build_object('code', code, 'message', message) END AS cause
    FROM lost
), moved AS (
    UPDATE tasks_app_task task
    SET status = CASE WHEN judged.fails THEN 'failed' ELSE 'pending' END,
        completed_at = CASE WHEN judged.fails THEN now() END,
        error = CASE WHEN judged.final OR judged.late THEN judged.cause
                     WHEN judged.fails THEN jsonb_build_object(
                        'code', 'attempts_exhausted',
                        'message', format('gave up after %%s attempts; the last ended: %%s: %%s', task.attempt,
                                          judged.outcome, judged.message)) END,
        spent = task.spent + judged.spend::int, crashes = task.crashes + judged.crash::int,
        lane = CASE WHEN judged.alone THEN 'cpu' ELSE task.lane END,
        run_after = CASE WHEN judged.spend AND NOT judged.fails
                         THEN now() + random() * LEAST(60, power(2, LEAST(task.spent, 20)) - 1) * interval '1 second'
                         ELSE task.run_after END,
        epoch = task.epoch + 1, generation = task.generation + 1, lease_id = NULL, timeout_at = NULL,
        status_message = NULL, status_at = now(), updated_at = now()
    FROM judged WHERE task.id = judged.id AND task.lease_id = judged.attempt_id
    RETURNING task.id, judged.held_lane AS lane, task.agent, task.priority, task.status, task.started_at,
              task.generation, task.progress, COALESCE(task.error, judged.cause) AS error, judged.attempt_id,
              CASE WHEN judged.late THEN 'timed_out' ELSE judged.outcome END AS outcome, judged.cause,
              judged.released, judged.peak_rss_bytes, judged.cpu_s, judged.disk_bytes
), ended AS (
    UPDATE tasks_app_taskattempt attempt
    SET ended_at = now(), released_at = CASE WHEN moved.released THEN now() END, outcome = moved.outcome,
        error = moved.cause, peak_rss_bytes = moved.peak_rss_bytes, cpu_s = moved.cpu_s, disk_bytes = moved.disk_bytes
    FROM moved WHERE attempt.id = moved.attempt_id
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, error, attempt, created_at)
    SELECT id, generation, 'status', status, progress, error, 0, now() FROM moved
)
SELECT id, lane, agent, priority, status, started_at, now(), outcome FROM moved
"""
LOSE = _KNOWN + _MOVE
RESCUE = _EXPIRED + _MOVE

# Attempts that were fenced before (a cancel), and whose worker no longer says that the handler goes on.
FREE = """
UPDATE tasks_app_taskattempt SET released_at = now()
WHERE released_at IS NULL AND ended_at IS NOT NULL AND lease_expires_at < now() - %(lease_s)s * interval '1 second'
"""

# After a gap of more than two ticks nobody could extend a lease either: wait one lease before judging.
TICK = """
INSERT INTO tasks_app_sweeptick AS tick (name, last_at, hold_until) VALUES (%(name)s, now(), now())
ON CONFLICT (name) DO UPDATE
SET last_at = now(),
    hold_until = CASE WHEN now() - tick.last_at > %(gap_s)s * interval '1 second'
                      THEN now() + %(lease_s)s * interval '1 second' ELSE tick.hold_until END
RETURNING hold_until <= now()
"""
LATE = """
SELECT COALESCE(max(last_at) < now() - %(gap_s)s * interval '1 second', true)
FROM tasks_app_sweeptick WHERE name = %(name)s
"""
SWEEP = "rescue"

_LOST = ("attempt_id", "outcome", "code", "message", "released", "spend", "final")
_USED = ("peak_rss_bytes", "cpu_s", "disk_bytes")


def lose(items: Sequence[Lost]) -> Steps[list[Moved]]:
    """Ends these attempts, if they still hold their leases; the tasks that moved.

    Waits for a write of the attempt's own that is under way. The slot of one that ended before is freed as well.
    """
    params: dict[str, Any] = {name: [getattr(item, name) for item in items] for name in _LOST}
    params["outcome"] = [item.outcome.value for item in items]
    params |= {name: [getattr(item.usage, name) for item in items] for name in _USED}
    rows = yield Statement(LOSE, params)
    yield from release([item.attempt_id for item in items if item.released], died=True)
    return moved(rows)


def rescue(*, limit: int = 500) -> Steps[list[Moved]]:
    """Ends up to ``limit`` attempts whose lease has expired, and frees the slots that nobody claims to use any more.

    Attempts of one process lost together charge a crash and no attempt: one of them may have killed the others. A task
    with two crashes goes to the cpu lane, where a process has no other, if there is a worker.
    """
    params = {"limit": limit, "crashes_max": CRASHES_MAX, "silent_s": silent_after_s()}
    rows = yield Statement(RESCUE, params)
    yield Statement(FREE, {"lease_s": settings.A2A_LEASE_S})
    return moved(rows)


def tick() -> Steps[bool]:
    """Records that the sweep runs now; whether leases may be judged by the clock."""
    gap_s = 3 * settings.A2A_SWEEP_S
    rows = yield Statement(TICK, {"name": SWEEP, "gap_s": gap_s, "lease_s": settings.A2A_LEASE_S})
    return bool(rows[0][0])


def sweep_is_late() -> Steps[bool]:
    """Whether nobody has swept for two intervals and more: then the dispatcher does."""
    rows = yield Statement(LATE, {"name": SWEEP, "gap_s": 2 * settings.A2A_SWEEP_S})
    return bool(rows[0][0])


def moved(rows: list[tuple[Any, ...]]) -> list[Moved]:
    """The rows (id, lane, agent, priority, status, started_at, now, outcome) as values."""
    return [
        Moved(
            task_id=row[0],
            lane=row[1],
            agent=row[2],
            priority=Priority(row[3]),
            status=TaskStatus(row[4]),
            started_at=row[5],
            at=row[6],
            outcome=Outcome(row[7]) if row[7] else None,
        )
        for row in rows
    ]
