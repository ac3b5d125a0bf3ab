"""What operators and clients change of tasks that wait: priority, time, admission; and new tasks from ended ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import uuid_utils.compat
from a2a.types import Message

from tasks_app.engine import batches, dependencies
from tasks_app.engine.batches import Place
from tasks_app.engine.claim import decoded
from tasks_app.engine.conditions import PENDING
from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.engine.create import Created, NewTask, create, create_within
from tasks_app.policies import Resources
from tasks_app.status import TERMINAL, Lane, Priority

# A hint that is in the broker already carries the old place in the queue: the raised epoch makes it stale.
_UNADMITTED = """admitted_at = NULL, republish_at = NULL, publishes = 0,
        epoch = task.epoch + (task.admitted_at IS NOT NULL)::int"""
# Never in the past. PostgreSQL's GREATEST passes over a null, which is why this is a CASE.
_TIME = """CASE WHEN %(run_after)s::timestamptz IS NULL THEN task.run_after
                     ELSE GREATEST(%(run_after)s::timestamptz, now()) END"""
# The start deadline counts from the time, and goes with it.
RESCHEDULE = f"""
UPDATE tasks_app_task task
SET priority = COALESCE(%(priority)s::smallint, task.priority),
    run_after = {_TIME},
    start_deadline_at = task.start_deadline_at - task.run_after + {_TIME},
    updated_at = now(), {_UNADMITTED}
WHERE id = ANY(%(task_id)s::uuid[]) AND {PENDING}
RETURNING id
"""  # noqa: S608 (only constants are put in)
UNADMIT = f"""
UPDATE tasks_app_task task SET {_UNADMITTED}
WHERE status = 'pending' AND admitted_at IS NOT NULL
  AND (agent = ANY(%(agent)s::text[]) OR client_id = ANY(%(client_id)s::bigint[])
       OR (lane, priority) IN (SELECT * FROM unnest(%(lane)s::text[], %(priority)s::smallint[])))
"""  # noqa: S608
ENDED = """
SELECT task.id, task.client_id, task.agent, task.priority, task.context_id, task.timeout_s, task.max_attempts,
       request.message, request.method, request.parameters, request.metadata, request.resources,
       request.accepted_output_modes
FROM tasks_app_task task JOIN tasks_app_taskrequest request ON request.task_id = task.id
WHERE task.id = ANY(%(task_id)s::uuid[]) AND task.status = ANY(%(terminal)s::text[])
ORDER BY task.id FOR NO KEY UPDATE OF task
"""


def reschedule(
    task_ids: Sequence[UUID], *, priority: Priority | None = None, run_after: datetime | None = None
) -> Steps[list[UUID]]:
    """Gives those of the tasks that are still pending another priority, another time, or both; their ids."""
    params = {"task_id": sorted(task_ids), "priority": priority, "run_after": run_after}
    rows = yield Statement(RESCHEDULE, params)
    return [row[0] for row in rows]


def unadmit(
    *,
    agents: Sequence[str] = (),
    client_ids: Sequence[int] = (),
    queues: Sequence[tuple[Lane, Priority]] = (),
) -> Steps[None]:
    """Takes back what was admitted of these and not yet claimed: they were paused, or their breaker opened."""
    params: dict[str, Any] = {
        "agent": list(agents),
        "client_id": list(client_ids),
        "lane": [lane.value for lane, _ in queues],
        "priority": [int(priority) for _, priority in queues],
    }
    yield Statement(UNADMIT, params)


@transactional
def rerun(
    task_ids: Sequence[UUID], *, lanes: dict[str, Lane], max_queued: int | None = None, placed: bool = False
) -> Steps[list[Created]]:
    """Makes a new task of each of these that has ended, which names it as ``rerun_of``; what was made, in order of id.

    It takes the place that the other holds in a batch, and needs the newest of what that needed and has not completed.
    ``lanes`` are those of the agents there are; a task of another agent is left out, since nothing could run it.
    ``max_queued`` is how many tasks their clients may have waiting; what is more is refused, see :func:`create_within`.
    ``placed``: only of those that hold a place in a batch. Locks the tasks, then their batches.
    """
    params = {"task_id": sorted(task_ids), "terminal": sorted(TERMINAL)}
    rows = [row for row in (yield Statement(ENDED, params)) if row[2] in lanes]
    if not rows:
        return []
    places = yield from batches.vacate([row[0] for row in rows])
    if placed:
        rows = [row for row in rows if row[0] in places]
        if not rows:
            return []
    ids = {row[0]: uuid_utils.compat.uuid7() for row in rows}
    needs = yield from dependencies.again((yield from dependencies.needed(list(ids))), ids)
    items = [
        _again(row, ids[row[0]], lanes[row[2]], places.get(row[0]), needs.get(row[0], {}), max_queued) for row in rows
    ]
    made = yield from (create if max_queued is None else create_within)(items)
    refused = {row[0] for row, created in zip(rows, made, strict=True) if created.refused}
    taken = {task_id: place for task_id, place in places.items() if task_id not in refused}
    yield from batches.occupied(taken, {task_id: places[task_id] for task_id in refused.intersection(places)})
    return made


def _again(
    row: tuple[Any, ...],
    task_id: UUID,
    lane: Lane,
    place: Place | None,
    needs: dict[UUID, UUID],
    max_queued: int | None,
) -> NewTask:
    message = Message.FromString(bytes(row[7]))
    message.message_id = f"rerun-{uuid4()}"
    newest = {str(before): str(after) for before, after in needs.items()}
    references = [newest.get(text, text) for text in message.reference_task_ids]
    del message.reference_task_ids[:]
    message.reference_task_ids.extend(references)
    return NewTask(
        id=task_id,
        depends_on=tuple(dict.fromkeys(needs.values())),
        client_id=row[1],
        agent=row[2],
        lane=lane,
        priority=Priority(row[3]),
        context_id=row[4],
        timeout_s=row[5],
        max_attempts=row[6],
        batch_id=place[0] if place else None,
        batch_index=place[1] if place else None,
        message_id=message.message_id,
        message=message.SerializeToString(deterministic=True),
        method=row[8],
        parameters=decoded(row[9]),
        metadata=decoded(row[10]),
        needs=Resources().with_asked(decoded(row[11])),
        accepted_output_modes=tuple(row[12]),
        max_queued=max_queued,
        rerun_of=row[0],
    )
