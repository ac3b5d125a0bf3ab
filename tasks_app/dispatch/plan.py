"""Which tasks enter the broker next: priority with ageing, fairness, limits, room. Pure.

Tasks wait in groups of equals: one lane, priority, agent and client. Within a group the older goes first. Among groups
the more urgent level goes first, where waiting for ``ageing_s`` lifts by one level; within a level each seat goes to
the client with the fewest tasks in flight, and of those to the one served longest ago.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import TypeVar

from tasks_app.dispatch.window import behind
from tasks_app.engine.admit import Ask, Flight, Found, GroupKey, Scene
from tasks_app.status import Lane

Key = TypeVar("Key")
#: Nothing left of a capacity, where 0 says that there is no limit.
_CLOSED = -1


@dataclass(slots=True)
class Capacity:
    """What one live worker has for sized tasks; 0 is no limit."""

    lane: str
    memory_mb: float = 0
    cores: float = 0
    disk_mb: float = 0

    def takes(self, task: Flight | Found) -> bool:
        """Takes the task in, if there is room for it."""
        needs = ((task.memory_mb, self.memory_mb), (task.cores, self.cores), (task.disk_mb, self.disk_mb))
        if any(need and has and need > has for need, has in needs):
            return False
        self.put(task)
        return True

    def put(self, task: Flight | Found, count: int = 1) -> None:
        """Takes the task in, room or not."""
        self.memory_mb = _left(self.memory_mb, task.memory_mb * count)
        self.cores = _left(self.cores, task.cores * count)
        self.disk_mb = _left(self.disk_mb, task.disk_mb * count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What operators, agents and breakers say, as it stands now. Without an entry there is no limit."""

    closed_agents: frozenset[str] = frozenset()
    closed_clients: frozenset[int] = frozenset()
    closed_queues: frozenset[tuple[str, int]] = frozenset()
    #: The agents that each lane's live workers can run; a lane that is not named runs any.
    agents: Mapping[str, frozenset[str]] = field(default_factory=dict)
    agent_max: Mapping[str, int] = field(default_factory=dict)
    client_max: Mapping[int, int] = field(default_factory=dict)
    lane_max: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    #: Half open: of these agents one task in all may be in flight.
    probing: frozenset[str] = frozenset()
    workers: Mapping[str, Capacity] = field(default_factory=dict)


class Plan:
    """One round of admission. Ask, look what there is, take; until :meth:`asks` is empty."""

    def __init__(
        self,
        room: Mapping[Lane, int],
        rules: Rules,
        scene: Scene,
        *,
        served: Mapping[int, float],
    ) -> None:
        """``room`` is how much may still be outstanding in each lane; ``served`` when each client was served last, as
        :attr:`served` of the plan before said."""
        self._rules = rules
        self._served = dict(served)
        self._tick = max(served.values(), default=0.0)
        self._room = {lane.value: count for lane, count in room.items()}
        self._in_broker = scene.admitted
        self._clients: Counter[tuple[str, int]] = Counter()
        self._client_room = dict(rules.client_max)
        self._agent_room = dict(rules.agent_max)
        for agent in rules.probing:
            self._agent_room[agent] = 1
        self._lane_room = dict(rules.lane_max)
        self._count(scene.flights)
        for agent, count in scene.tokens.items():
            self._agent_room[agent] = min(count, self._agent_room.get(agent, count))
        self._workers = _loaded(rules.workers, scene.flights)
        self._groups = {
            group.key: group.level for group in scene.waiting if group.due_in_s <= 0 and self._may(group.key)
        }
        self._asked: list[Ask] = []

    @property
    def served(self) -> dict[int, float]:
        """When each client was served last, counted in seats."""
        return self._served

    def asks(self) -> list[Ask]:
        """What to take next: in each lane with room, seats of the most urgent level; empty when nothing is left."""
        self._asked = []
        for lane in self._room:
            self._asked += self._asks_of(lane)
        return self._asked

    def take(self, found: Iterable[Found]) -> list[Found]:
        """Of what was found for the asks, what to admit: all that needs no placing, and what has a place.

        A group that gave less than asked goes down a level.
        """
        taken: list[Found] = []
        given: Counter[GroupKey] = Counter()
        unfit: set[GroupKey] = set()
        for task in found:
            given[task.key] += 1
            if task.key in unfit and task.epoch is None:
                continue
            if not self._fits(task):
                unfit.add(task.key)
                if self._groups[task.key] < task.key.priority:
                    self._reserve(task)
                continue
            self._seat(task.key)
            taken.append(task)
        for ask in self._asked:
            if ask.key in unfit:
                self._groups.pop(ask.key, None)
            elif given[ask.key] < ask.seats:
                self._lower(ask)
        return taken

    def _count(self, flights: Sequence[Flight]) -> None:
        for flight in flights:
            self._clients[flight.lane, flight.client_id] += flight.tasks
            _spend(self._client_room, flight.client_id, flight.tasks)
            _spend(self._agent_room, flight.agent, flight.tasks)
            _spend(self._lane_room, flight.lane, flight.tasks)

    def _may(self, key: GroupKey) -> bool:
        rules = self._rules
        return not (
            key.agent in rules.closed_agents
            or key.client_id in rules.closed_clients
            or (key.lane, key.priority) in rules.closed_queues
            or key.agent not in rules.agents.get(key.lane, (key.agent,))
        )

    def _asks_of(self, lane: str) -> list[Ask]:
        seats = {key: self._seats(key) for key in self._groups if key.lane == lane and self._has_room(key)}
        open_to = [key for key, count in seats.items() if count > 0]
        if not open_to:
            return []
        level = min(self._groups[key] for key in open_to)
        groups = [key for key in open_to if self._groups[key] == level]
        counts = self._share(lane, groups, min(seats[key] for key in groups))
        return [Ask(key, level, count) for key, count in counts.items()]

    def _seats(self, key: GroupKey) -> int:
        """How many tasks of its priority may enter now: the lane's room, or if there is none, what they may pass."""
        room = self._room[key.lane]
        if room <= 0:
            room += behind(self._in_broker, key.lane, key.priority)
        return min(room, self._lane_room.get(key.lane, room))

    def _share(self, lane: str, groups: list[GroupKey], seats: int) -> Counter[GroupKey]:
        """Hands the seats out one by one, as if every group had enough tasks."""
        counts: Counter[GroupKey] = Counter()
        clients, agents = dict(self._client_room), dict(self._agent_room)
        queues: dict[int, deque[GroupKey]] = defaultdict(deque)
        for key in groups:
            queues[key.client_id].append(key)
        heap = [(self._clients[lane, client], self._served.get(client, 0.0), client) for client in queues]
        heapify(heap)
        while seats and heap:
            flying, served, client = heap[0]
            key = queues[client][0]
            alone = len(heap) == 1 and len(queues[client]) == 1
            count = min(seats if alone else 1, clients.get(client, seats), agents.get(key.agent, seats))
            if count > 0:
                counts[key] += count
                _spend(clients, client, count)
                _spend(agents, key.agent, count)
                seats -= count
                queues[client].rotate(-1)
                heapreplace(heap, (flying + count, served, client))
            else:
                queues[client].popleft()
                if not queues[client]:
                    heappop(heap)
        return counts

    def _has_room(self, key: GroupKey) -> bool:
        return self._client_room.get(key.client_id, 1) > 0 and self._agent_room.get(key.agent, 1) > 0

    def _fits(self, task: Found) -> bool:
        if task.epoch is not None or not (task.memory_mb or task.cores or task.disk_mb):
            return True
        workers = [worker for worker in self._workers.values() if worker.lane == task.key.lane]
        return not workers or any(worker.takes(task) for worker in workers)

    def _reserve(self, task: Found) -> None:
        """Keeps a worker that is large enough for a task that has waited long: smaller ones pass it by no more."""
        for name, worker in self._rules.workers.items():
            whole = Capacity(worker.lane, worker.memory_mb, worker.cores, worker.disk_mb)
            if worker.lane == task.key.lane and whole.takes(task):
                left = self._workers[name]
                left.memory_mb, left.cores, left.disk_mb = _CLOSED, _CLOSED, _CLOSED
                return

    def _seat(self, key: GroupKey) -> None:
        self._room[key.lane] -= 1
        self._clients[key.lane, key.client_id] += 1
        self._tick += 1
        self._served[key.client_id] = self._tick
        _spend(self._client_room, key.client_id, 1)
        _spend(self._agent_room, key.agent, 1)
        _spend(self._lane_room, key.lane, 1)

    def _lower(self, ask: Ask) -> None:
        """Its older tasks are taken: the next are less urgent, down to the group's own priority."""
        if ask.level < ask.key.priority:
            self._groups[ask.key] = ask.level + 1
        else:
            self._groups.pop(ask.key, None)


def _loaded(workers: Mapping[str, Capacity], flights: Sequence[Flight]) -> dict[str, Capacity]:
    """What the workers have left; what is admitted and not yet claimed is put where it fits first."""
    left = {name: Capacity(w.lane, w.memory_mb, w.cores, w.disk_mb) for name, w in workers.items()}
    for flight in flights:
        if flight.worker in left:
            left[flight.worker].put(flight, flight.tasks)
    for flight in flights:
        if not flight.worker and (flight.memory_mb or flight.cores or flight.disk_mb):
            for _ in range(flight.tasks):
                next((worker for worker in left.values() if worker.lane == flight.lane and worker.takes(flight)), None)
    return left


def _left(has: float, taken: float) -> float:
    """What is left of a capacity: 0 stays «no limit»."""
    if not has or not taken:
        return has
    left = has - taken
    return left if left > 0 else _CLOSED


def _spend(room: dict[Key, int], key: Key, count: int) -> None:
    if key in room:
        room[key] -= count
