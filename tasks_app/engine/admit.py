"""admit and republish: what may enter the broker now. The dispatcher is the only caller; the order is its plan's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from django.conf import settings

from tasks_app.engine.breaker import mark_probes, probed
from tasks_app.engine.conditions import ADMITTED, WAITING
from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.status import Lane, Priority

#: The longest interval between two publishes of one hint, in seconds.
REPUBLISH_MAX_S = 60.0
#: So many hints before it in the broker lengthen the first interval by as much again.
REPUBLISH_BEHIND = 250
#: The advisory lock that makes admissions one after the other ("a2a" and 2).
LOCK = {"key": 0x613261, "of": 2}


@dataclass(frozen=True, slots=True)
class Hint:
    """What a message in the broker stands for: this task may be claimed with this epoch."""

    task_id: UUID
    epoch: int
    lane: Lane
    priority: Priority
    agent: str


class GroupKey(NamedTuple):
    """Tasks that wait as equals."""

    lane: str
    priority: int
    agent: str
    client_id: int


class Waiting(NamedTuple):
    """A group that waits: the level of its oldest task if that is due, or how long until it is."""

    key: GroupKey
    level: int
    due_in_s: float


class Known(NamedTuple):
    """The groups that wait, as a look before found them: when the oldest task of each is due, in seconds since 1970.

    ``changed`` are those to look at again: tasks of theirs have come or were taken since.
    """

    heads: Mapping[GroupKey, float]
    changed: Set[GroupKey] = frozenset()


class Flight(NamedTuple):
    """How many tasks of one kind are admitted (``worker`` is empty) or hold a slot of a worker."""

    lane: str
    agent: str
    client_id: int
    worker: str
    memory_mb: int
    cores: float
    disk_mb: int
    tasks: int
    priority: int = Priority.NORMAL


class Ask(NamedTuple):
    """How many tasks of a group to take, none of them less urgent than the level."""

    key: GroupKey
    level: int
    seats: int


class Found(NamedTuple):
    """A task that was found for an ask."""

    key: GroupKey
    task_id: UUID
    memory_mb: int
    cores: float
    disk_mb: int
    #: Set if it has been admitted with this epoch already, since it needs no placing.
    epoch: int | None = None


class Scene(NamedTuple):
    """What a plan is made from.

    ``tokens`` is how many tasks each agent with a rate may be given now, and 0 for one whose probe is under way.
    """

    flights: list[Flight]
    waiting: list[Waiting]
    tokens: dict[str, int]

    @property
    def in_flight(self) -> dict[Lane, int]:
        """Tasks admitted or holding a slot, by lane."""
        counts: Counter[Lane] = Counter()
        for flight in self.flights:
            counts[Lane(flight.lane)] += flight.tasks
        return dict(counts)

    @property
    def admitted(self) -> Counter[tuple[Lane, int]]:
        """Tasks that wait in the broker, by lane and priority."""
        counts: Counter[tuple[Lane, int]] = Counter()
        for flight in self.flights:
            if not flight.worker:
                counts[Lane(flight.lane), flight.priority] += flight.tasks
        return counts


class Chooser(Protocol):
    """Decides what to admit: asked what to look for, then told what there is, until it asks for nothing."""

    def asks(self) -> list[Ask]: ...

    def take(self, found: list[Found]) -> list[Found]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What a round admitted, most urgent first, and what it left: tasks in flight, in the broker, the next one due.

    ``known`` is what it knows of the groups that wait, for the next round.
    """

    hints: list[Hint]
    in_flight: dict[Lane, int]
    admitted: dict[tuple[Lane, int], int]
    next_due_s: float | None
    known: Known


LOCK_SQL = "SELECT pg_advisory_xact_lock(%(key)s::int, %(of)s::int)::text, extract(epoch FROM now())::float8"

FLIGHTS = """
SELECT lane, agent, client_id, worker, memory_mb, cores, disk_mb, count(*)::int, priority::int, NULL::float8
FROM (
    SELECT lane, agent, client_id, '' AS worker, memory_mb, cores, disk_mb, priority FROM tasks_app_task
    WHERE status = 'pending' AND admitted_at IS NOT NULL
    UNION ALL
    SELECT task.lane, task.agent, task.client_id, attempt.worker, task.memory_mb, task.cores, task.disk_mb,
           task.priority
    FROM tasks_app_taskattempt attempt JOIN tasks_app_task task ON task.id = attempt.task_id
    WHERE attempt.released_at IS NULL
) flight
GROUP BY 1, 2, 3, 4, 5, 6, 7, 9
"""

# The oldest task that waits of each lane, priority, agent and client: hops from one such group to the next along
# task_dispatch_idx, with one look-up each, however many tasks wait.
HEADS = """
WITH RECURSIVE head AS (
    (SELECT lane, priority, agent, client_id, run_after FROM tasks_app_task
     WHERE status = 'pending' AND admitted_at IS NULL AND deps_left = 0
     ORDER BY lane, priority, agent, client_id, run_after LIMIT 1)
    UNION ALL
    SELECT next.* FROM head, LATERAL (
        SELECT lane, priority, agent, client_id, run_after FROM tasks_app_task
        WHERE status = 'pending' AND admitted_at IS NULL AND deps_left = 0
          AND (lane, priority, agent, client_id) > (head.lane, head.priority, head.agent, head.client_id)
        ORDER BY lane, priority, agent, client_id, run_after LIMIT 1) next
)
"""
_HEAD = """
SELECT head.lane, head.agent, head.client_id, NULL, NULL::int, NULL::float8, NULL::int, NULL::int, head.priority::int,
       extract(epoch FROM head.run_after)::float8
"""
GROUPS = f"{HEADS} {_HEAD} FROM head"
# The same of these groups only.
CHANGED = f"""
{_HEAD}
FROM unnest(%(lane)s::text[], %(priority)s::smallint[], %(agent)s::text[], %(client_id)s::bigint[])
         AS changed(lane, priority, agent, client_id),
LATERAL (
    SELECT lane, priority, agent, client_id, run_after FROM tasks_app_task
    WHERE status = 'pending' AND admitted_at IS NULL AND deps_left = 0 AND lane = changed.lane
      AND priority = changed.priority AND agent = changed.agent AND client_id = changed.client_id
    ORDER BY run_after LIMIT 1
) head
"""  # noqa: S608

# A statement of its own after the lock: the snapshot of the one that takes it is older than the lock.
LOOK = f"({FLIGHTS}) UNION ALL ({GROUPS})"
LOOK_AGAIN = f"({FLIGHTS}) UNION ALL ({CHANGED})"

# What needs nothing of a worker leaves nothing to choose: it is marked as it is found. The others have to be placed.
TAKE = f"""
WITH found AS (
    SELECT ask.lane, ask.priority, ask.agent, ask.client_id, ask.level, task.*
    FROM unnest(%(lane)s::text[], %(priority)s::smallint[], %(agent)s::text[], %(client_id)s::bigint[],
                %(level)s::int[], %(seats)s::int[]) AS ask(lane, priority, agent, client_id, level, seats),
    LATERAL (
        SELECT id, epoch, run_after, memory_mb, cores, disk_mb FROM tasks_app_task
        WHERE status = 'pending' AND admitted_at IS NULL AND deps_left = 0 AND lane = ask.lane
          AND priority = ask.priority AND agent = ask.agent AND client_id = ask.client_id
          AND run_after <= now() - (ask.priority - ask.level) * %(ageing_s)s * interval '1 second'
        ORDER BY run_after, id LIMIT ask.seats
    ) task
), marked AS (
    UPDATE tasks_app_task task
    SET admitted_at = now(), publishes = 1, republish_at = now() + %(republish_s)s * interval '1 second'
    FROM found
    WHERE task.id = found.id AND {WAITING} AND found.memory_mb = 0 AND found.cores = 0 AND found.disk_mb = 0
    RETURNING task.id, task.epoch
)
SELECT found.lane, found.priority, found.agent, found.client_id, found.id, found.memory_mb, found.cores, found.disk_mb,
       marked.epoch
FROM found LEFT JOIN marked ON marked.id = found.id
ORDER BY found.level, found.run_after, found.id
"""  # noqa: S608 (only constants are put in)

MARK = f"""
UPDATE tasks_app_task task
SET admitted_at = now(), publishes = 1, republish_at = now() + %(republish_s)s * interval '1 second'
WHERE id = ANY(%(task_id)s::uuid[]) AND {WAITING}
RETURNING id, epoch
"""  # noqa: S608

# A bucket per agent that fills at its rate, kept as the instant at which it will be full again (GCRA, ITU-T I.371).
BUCKETS = """
SELECT item.agent, GREATEST(0, COALESCE(extract(epoch FROM control.next_at - now()), 0))::float8
FROM unnest(%(agent)s::text[]) AS item(agent)
LEFT JOIN tasks_app_queuecontrol control ON control.scope = 'agent' AND control.name = item.agent
"""
DRAW = """
INSERT INTO tasks_app_queuecontrol AS control (scope, name, next_at)
SELECT 'agent', agent, now() + seconds * interval '1 second'
FROM unnest(%(agent)s::text[], %(seconds)s::float8[]) AS item(agent, seconds)
ON CONFLICT (scope, name) DO UPDATE
SET next_at = GREATEST(control.next_at, now()) + (EXCLUDED.next_at - now())
"""
#: An agent with a rate may get this many seconds' worth at once.
BURST_S = 0.25

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
    RETURNING task.id, epoch, lane, priority, agent, run_after
)
SELECT id, epoch, lane, priority, agent FROM again ORDER BY priority, run_after, id
"""

UNPUBLISHED = f"""
UPDATE tasks_app_task task SET publishes = 0, republish_at = now() + %(republish_s)s * interval '1 second'
WHERE id = ANY(%(task_id)s::uuid[]) AND {ADMITTED}
"""  # noqa: S608


@transactional
def admit(
    plan: Callable[[Scene], Chooser],
    *,
    known: Known | None = None,
    rates: Mapping[str, float] | None = None,
    probing: Sequence[str] = (),
) -> Steps[Admission]:
    """Marks as admitted what the plan chooses. Publish after this returns: it has committed.

    Holds the admission lock, so that nobody else admits between the count and the mark. Of the groups that wait it
    looks only at those that ``known`` says have changed; at all, if it is None. ``rates`` are those of agents that have
    one, per second; ``probing`` agents whose breaker is half open: what is admitted of them is the probe.
    """
    now_s: float = (yield Statement(LOCK_SQL, LOCK))[0][1]
    heads: dict[GroupKey, float] = {}
    if known is None:
        rows = yield Statement(LOOK, {})
    else:
        rows = yield Statement(LOOK_AGAIN, _bind_keys(known.changed))
        heads = {key: due_at_s for key, due_at_s in known.heads.items() if key not in known.changed}
    flights = [Flight(*row[:9]) for row in rows if row[9] is None]
    heads.update((GroupKey(row[0], row[8], row[1], row[2]), row[9]) for row in rows if row[9] is not None)
    waiting = [_waiting(key, due_at_s, now_s) for key, due_at_s in heads.items()]
    tokens = (yield from _tokens(rates)) if rates else {}
    if probing:
        tokens |= dict.fromkeys((yield from probed(probing)), 0)
    scene = Scene(flights, waiting, tokens)
    chooser = plan(scene)
    hints: list[Hint] = []
    asked: set[GroupKey] = set()
    while asks := chooser.asks():
        asked.update(ask.key for ask in asks)
        # Behind many others a hint is not lost because it has not been claimed yet.
        before = sum(flight.tasks for flight in flights if not flight.worker) + sum(ask.seats for ask in asks)
        republish_s = settings.A2A_REPUBLISH_S * (1 + (len(hints) + before) / REPUBLISH_BEHIND)
        rows = yield Statement(TAKE, _bind_asks(asks) | {"republish_s": republish_s})
        found = [Found(GroupKey(*row[:4]), *row[4:]) for row in rows]
        taken = chooser.take(found)
        epochs = {task.task_id: task.epoch for task in found if task.epoch is not None}
        placed = [task.task_id for task in taken if task.task_id not in epochs]
        if placed:
            epochs |= dict((yield Statement(MARK, {"task_id": placed, "republish_s": republish_s})))
        hints += [_hint(task, epochs[task.task_id]) for task in taken if task.task_id in epochs]
    if rates:
        yield from _draw(Counter(hint.agent for hint in hints if hint.agent in rates), rates)
    probes = {hint.agent: (hint.task_id, hint.epoch) for hint in hints if hint.agent in probing}
    if probes:
        yield from mark_probes(probes)
    in_flight = Counter(scene.in_flight) + Counter(hint.lane for hint in hints)
    return Admission(
        hints=hints,
        in_flight=dict(in_flight),
        admitted=dict(scene.admitted + Counter((hint.lane, int(hint.priority)) for hint in hints)),
        next_due_s=_next_due(waiting, rates or {}),
        known=Known(heads, asked),
    )


def republish(*, limit: int = 500) -> Steps[list[Hint]]:
    """The hints that nobody claimed in time, to be published again under the same epoch and admission."""
    params = {"limit": limit, "republish_s": settings.A2A_REPUBLISH_S, "max_s": REPUBLISH_MAX_S}
    return _hints((yield Statement(REPUBLISH, params)))


def unpublished(task_ids: Sequence[UUID]) -> Steps[None]:
    """Notes that the broker did not take these hints: they are due again soon, without a longer interval."""
    yield Statement(UNPUBLISHED, {"task_id": list(task_ids), "republish_s": settings.A2A_REPUBLISH_S})


def _tokens(rates: Mapping[str, float]) -> Steps[dict[str, int]]:
    rows = yield Statement(BUCKETS, {"agent": list(rates)})
    return {agent: tokens_left(debt_s, rates[agent]) for agent, debt_s in rows}


def tokens_left(debt_s: float, rate_per_s: float) -> int:
    """How many may go now if the bucket will be full in ``debt_s``; never more than the burst."""
    burst = max(1, int(rate_per_s * BURST_S))
    # A hair more, so that a debt that was added up from floats does not cost a token.
    return max(0, int(burst - debt_s * rate_per_s + 1e-6))


def _draw(counts: Mapping[str, int], rates: Mapping[str, float]) -> Steps[None]:
    if counts:
        seconds = [count / rates[agent] for agent, count in counts.items()]
        yield Statement(DRAW, {"agent": list(counts), "seconds": seconds})


def _waiting(key: GroupKey, due_at_s: float, now_s: float) -> Waiting:
    waited_s = now_s - due_at_s
    lifted = int(waited_s // settings.A2A_AGEING_S) if waited_s > 0 else 0
    return Waiting(key, max(0, key.priority - lifted), -waited_s)


def _bind_keys(keys: Iterable[GroupKey]) -> dict[str, Any]:
    keys = list(keys)
    return {name: [getattr(key, name) for key in keys] for name in GroupKey._fields}


def _bind_asks(asks: list[Ask]) -> dict[str, Any]:
    return {
        **_bind_keys(ask.key for ask in asks),
        "level": [ask.level for ask in asks],
        "seats": [ask.seats for ask in asks],
        "ageing_s": settings.A2A_AGEING_S,
    }


def _next_due(waiting: list[Waiting], rates: Mapping[str, float]) -> float | None:
    """How long until another task is due, or a token of an agent for which tasks wait."""
    due = [group.due_in_s for group in waiting if group.due_in_s > 0]
    due += [1 / rates[group.key.agent] for group in waiting if group.due_in_s <= 0 and group.key.agent in rates]
    return min(due, default=None)


def _hint(task: Found, epoch: int) -> Hint:
    return Hint(task.task_id, epoch, Lane(task.key.lane), Priority(task.key.priority), task.key.agent)


def _hints(rows: list[tuple[Any, ...]]) -> list[Hint]:
    return [Hint(row[0], row[1], Lane(row[2]), Priority(row[3]), row[4]) for row in rows]
