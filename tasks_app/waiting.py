"""Why a pending task is not running, from what holds now; nothing of it is stored. For the doors and the admin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from tasks_app import agents
from tasks_app.dispatch.plan import Capacity
from tasks_app.dispatch.queues import queue_name
from tasks_app.engine.admit import Found, GroupKey, tokens_left
from tasks_app.engine.core import Statement, Steps
from tasks_app.models.control import Breaker
from tasks_app.models.worker import silent_after_s
from tasks_app.status import Priority


class Reason(NamedTuple):
    """Why a task waits: a stable word for programs, and a sentence for people."""

    code: str
    message: str


class Place(NamedTuple):
    """A live worker of the task's lane: the agents it can run (none said: any) and what it has in all."""

    agents: tuple[str, ...]
    capacity: Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A pending task, and what decides when it may run.

    ``paused``, ``limits`` and ``running`` are by ``lane``, ``queue``, ``agent`` and ``client``: what an operator holds
    up, how many may be admitted or running at once, and how many are. ``debt_s`` is how long until the agent's bucket
    of ``rate_per_s`` is full again.
    """

    task: Found
    due_in_s: float = 0.0
    admitted: bool = False
    paused: frozenset[str] = frozenset()
    limits: Mapping[str, int] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)
    breaker: str | None = None
    rate_per_s: float | None = None
    debt_s: float = 0.0
    #: Of the tasks that it needs, how many have not completed.
    deps_left: int = 0
    places: tuple[Place, ...] = ()


def reasons(situation: Situation) -> list[Reason]:
    """All that keeps the task from running; never empty."""
    found = [*_held_up(situation), *_without_worker(situation)]
    if not situation.admitted:
        found += _at_a_limit(situation)
    if found:
        return found
    if situation.admitted:
        return [Reason("dispatched", "it is on its way to a worker")]
    return [Reason("queued", "it waits for a free slot, behind what is more urgent or older")]


def _held_up(situation: Situation) -> list[Reason]:
    found = []
    names = _names(situation)
    if situation.deps_left:
        needs = "a task that it needs has" if situation.deps_left == 1 else f"{situation.deps_left} tasks it needs have"
        found.append(Reason("dependencies", f"{needs} not completed: see depends_on"))
    if situation.due_in_s > 0:
        found.append(Reason("not_due", "its time has not come: see run_after"))
    for scope in sorted(situation.paused):
        found.append(Reason(f"{scope}_paused", f"an operator paused {names[scope]}"))
    if situation.breaker == Breaker.State.OPEN:
        found.append(Reason("breaker_open", f"too many tasks of {names['agent']} failed; its circuit breaker is open"))
    if situation.breaker == Breaker.State.HALF_OPEN and situation.running.get("agent", 0) and not situation.admitted:
        found.append(Reason("breaker_half_open", f"{names['agent']} is tried with one task first, after many failed"))
    return found


def _at_a_limit(situation: Situation) -> list[Reason]:
    found = []
    for scope, limit in sorted(situation.limits.items()):
        if situation.running.get(scope, 0) >= limit:
            found.append(Reason(f"{scope}_limit", f"as many tasks of {_names(situation)[scope]} run as may at once"))
    rate_per_s = situation.rate_per_s
    if rate_per_s is not None and tokens_left(situation.debt_s, rate_per_s) == 0:
        most = f"{_names(situation)['agent']} is given at most {rate_per_s:g} tasks per second"
        found.append(Reason("agent_rate", most))
    return found


def _without_worker(situation: Situation) -> list[Reason]:
    task = situation.task
    if not situation.places:
        return [Reason("no_worker", f"no worker of lane {task.key.lane} is online")]
    able = [place for place in situation.places if not place.agents or task.key.agent in place.agents]
    if not able:
        return [Reason("no_worker_for_agent", f"no worker that is online has {_names(situation)['agent']}")]
    if not any(_whole(place).takes(task) for place in able):
        return [Reason("no_worker_large_enough", "it needs more memory, cores or disk than any worker has")]
    return []


def _whole(place: Place) -> Capacity:
    """A copy, since taking changes it."""
    has = place.capacity
    return Capacity(has.lane, has.memory_mb, has.cores, has.disk_mb)


def _names(situation: Situation) -> dict[str, str]:
    key = situation.task.key
    queue = f"queue {queue_name(key.lane, key.priority)}"
    return {"lane": f"lane {key.lane}", "queue": queue, "agent": f"agent {key.agent}", "client": "its client"}


# The read -------------------------------------------------------------------------------------------------------------

# What is in flight stands in task_republish_idx and attempt_unreleased_idx: as many rows as there are slots. It is
# counted once, however many tasks are asked about.
SITUATION = """
WITH other AS MATERIALIZED (
    SELECT lane, agent, client_id, count(*) AS n
    FROM (
        SELECT lane, agent, client_id FROM tasks_app_task WHERE status = 'pending' AND admitted_at IS NOT NULL
        UNION ALL
        SELECT held.lane, held.agent, held.client_id
        FROM tasks_app_taskattempt attempt JOIN tasks_app_task held ON held.id = attempt.task_id
        WHERE attempt.released_at IS NULL
    ) each
    GROUP BY 1, 2, 3
)
SELECT task.lane, task.priority, task.agent, task.client_id, task.id, task.memory_mb, task.cores, task.disk_mb,
       extract(epoch FROM task.run_after - now())::float8, task.admitted_at IS NOT NULL, breaker.state,
       lane.paused_at IS NOT NULL, queue.paused_at IS NOT NULL, agent.paused_at IS NOT NULL,
       client.paused_at IS NOT NULL, lane.max_running, agent.max_running, client.max_running,
       flight.lane, flight.agent, flight.client, agent.dispatch_rate_per_s,
       GREATEST(0, COALESCE(extract(epoch FROM agent.next_at - now()), 0))::float8, task.deps_left
FROM tasks_app_task task
JOIN tasks_app_client client ON client.id = task.client_id
LEFT JOIN tasks_app_breaker breaker ON breaker.agent = task.agent
LEFT JOIN tasks_app_queuecontrol lane ON lane.scope = 'lane' AND lane.name = task.lane
LEFT JOIN tasks_app_queuecontrol queue ON queue.scope = 'queue'
      AND queue.name = 'a2a.' || task.lane || '.' || (%(priorities)s::text[])[task.priority + 1]
LEFT JOIN tasks_app_queuecontrol agent ON agent.scope = 'agent' AND agent.name = task.agent
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(n) FILTER (WHERE other.lane = task.lane), 0)::int AS lane,
           COALESCE(sum(n) FILTER (WHERE other.agent = task.agent), 0)::int AS agent,
           COALESCE(sum(n) FILTER (WHERE other.client_id = task.client_id), 0)::int AS client
    FROM other
) flight
WHERE task.id = ANY(%(task_id)s::uuid[]) AND task.status = 'pending'
"""
PLACES = """
SELECT lane, memory_mb, cores, disk_mb, agents FROM tasks_app_worker
WHERE state = 'online' AND lane = ANY(%(lane)s::text[]) AND heartbeat_at > now() - %(silent_s)s * interval '1 second'
"""


def waiting_for(task_id: UUID) -> Steps[list[Reason]]:
    """Why this task waits; empty if it is not pending."""
    return (yield from waiting_for_each([task_id])).get(task_id, [])


def waiting_for_each(task_ids: Sequence[UUID]) -> Steps[dict[UUID, list[Reason]]]:
    """Why each of these tasks waits, by task; without those that are not pending."""
    rows = yield Statement(SITUATION, {"task_id": list(task_ids), "priorities": Priority.labels})
    if not rows:
        return {}
    params = {"lane": sorted({row[0] for row in rows}), "silent_s": silent_after_s()}
    places: dict[str, list[Place]] = {}
    for row in (yield Statement(PLACES, params)):
        places.setdefault(row[0], []).append(Place(tuple(row[4]), Capacity(*row[:4])))
    return {row[4]: reasons(_situation(row, tuple(places.get(row[0], ())))) for row in rows}


def _situation(row: tuple[Any, ...], places: tuple[Place, ...]) -> Situation:
    spec = agents.registered().get(row[2])
    paused = dict(zip(("lane", "queue", "agent", "client"), row[11:15], strict=True))
    limits = dict(zip(("lane", "agent", "client"), row[15:18], strict=True))
    if limits["agent"] is None and spec is not None:
        limits["agent"] = spec.max_running
    return Situation(
        task=Found(GroupKey(*row[:4]), *row[4:8]),
        due_in_s=row[8],
        admitted=row[9],
        # A breaker counts as long as its agent declares one.
        breaker=row[10] if spec is not None and spec.breaker is not None else None,
        paused=frozenset(scope for scope, is_paused in paused.items() if is_paused),
        limits={scope: limit for scope, limit in limits.items() if limit is not None},
        running=dict(zip(("lane", "agent", "client"), row[18:21], strict=True)),
        rate_per_s=row[21] or (spec.dispatch_rate_per_s if spec is not None else None),
        debt_s=row[22],
        deps_left=row[23],
        places=places,
    )
