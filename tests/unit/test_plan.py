"""The plan of admission: levels, fairness, limits, room for sized tasks (DESIGN D4, 9.6, 10 «Admission»)."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

from tasks_app.dispatch.plan import Capacity, Plan, Rules
from tasks_app.engine.admit import Ask, Flight, Found, GroupKey, Scene, Waiting
from tasks_app.status import Lane

CPU = Lane.CPU


def key(priority: int = 2, *, agent: str = "a", client: int = 1) -> GroupKey:
    return GroupKey("cpu", priority, agent, client)


def flight(
    count: int, *, agent: str = "a", client: int = 1, worker: str = "", memory_mb: int = 0, priority: int = 2
) -> Flight:
    return Flight("cpu", agent, client, worker, memory_mb, 0.0, 0, count, priority)


class Queue:
    """Groups with so many tasks each, as the database would find them."""

    def __init__(self, **sizes: int) -> None:
        self.left: dict[GroupKey, list[Found]] = {}

    def add(self, group: GroupKey, count: int, *, level: int | None = None, memory_mb: int = 0) -> Queue:
        self.left[group] = [Found(group, uuid4(), memory_mb, 0.0, 0) for _ in range(count)]
        self.levels = {**getattr(self, "levels", {}), group: group.priority if level is None else level}
        return self

    def admit(self, room: int, rules: Rules | None = None, *flights: Flight, **options: Any) -> list[GroupKey]:
        """The groups of what was admitted, in order."""
        waiting = [Waiting(group, self.levels[group], -1.0) for group in self.left]
        scene = Scene(list(flights), waiting, options.pop("tokens", {}))
        plan = Plan({CPU: room}, rules or Rules(), scene, served=options.pop("served", {}))
        admitted: list[GroupKey] = []
        while asks := plan.asks():
            taken = {task.task_id for task in plan.take(self._found(asks))}
            for group, tasks in self.left.items():
                admitted += [group for task in tasks if task.task_id in taken]
                self.left[group] = [task for task in tasks if task.task_id not in taken]
        self.served = plan.served
        return admitted

    def _found(self, asks: list[Ask]) -> list[Found]:
        return [task for ask in asks for task in self.left[ask.key][: ask.seats]]


def clients(admitted: list[GroupKey]) -> dict[int, int]:
    return dict(Counter(group.client_id for group in admitted))


def test_the_most_urgent_level_is_emptied_before_the_next_one_is_looked_at() -> None:
    queue = Queue().add(key(3), 50).add(key(0), 3).add(key(2), 4)
    assert queue.admit(10) == [key(0)] * 3 + [key(2)] * 4 + [key(3)] * 3


def test_without_room_only_what_passes_others_in_the_broker_enters_and_no_more_than_it_passes() -> None:
    waiting = Queue().add(key(3), 5).add(key(2), 5).add(key(0), 5)
    assert waiting.admit(0, None, flight(2, priority=3), flight(9, priority=3, worker="w")) == [key(0)] * 2
    assert waiting.admit(-2, None, flight(2, priority=3), flight(2, priority=0)) == []
    assert waiting.admit(-1, None, flight(3, priority=2), flight(1, priority=0)) == [key(0)] * 2


def test_a_limit_of_the_lane_holds_for_what_passes_too() -> None:
    queue = Queue().add(key(0), 5)
    assert queue.admit(0, Rules(lane_max={"cpu": 4}), flight(3, priority=3)) == [key(0)]


def test_a_low_task_that_has_waited_goes_with_the_level_it_has_reached() -> None:
    queue = Queue().add(key(3, client=2), 1, level=0).add(key(0), 5)
    assert key(3, client=2) in queue.admit(4)


def test_clients_share_the_seats_of_a_level_whatever_they_queue() -> None:
    queue = Queue().add(key(client=1), 1000).add(key(client=2), 1000).add(key(client=3), 2)
    assert clients(queue.admit(12)) == {1: 5, 2: 5, 3: 2}


def test_who_holds_slots_already_gets_fewer_seats() -> None:
    queue = Queue().add(key(client=1), 100).add(key(client=2), 100)
    assert clients(queue.admit(6, None, flight(4, client=1, worker="w"))) == {1: 1, 2: 5}


def test_one_seat_at_a_time_goes_round_the_clients() -> None:
    queue = Queue().add(key(client=1), 100).add(key(client=2), 100).add(key(client=3), 100)
    served: dict[int, float] = {}
    order = []
    for _ in range(6):
        order += [group.client_id for group in queue.admit(1, served=served)]
        served = queue.served
    assert sorted(order[:3]) == sorted(order[3:]) == [1, 2, 3]


def test_a_clients_agents_take_turns() -> None:
    queue = Queue().add(key(agent="a"), 100).add(key(agent="b"), 100)
    assert Counter(group.agent for group in queue.admit(8)) == {"a": 4, "b": 4}


def test_limits_count_what_is_in_flight() -> None:
    queue = Queue().add(key(client=1), 100).add(key(agent="b", client=2), 100)
    rules = Rules(client_max={1: 3}, agent_max={"b": 2})
    admitted = queue.admit(50, rules, flight(1, client=1, worker="w"), flight(1, agent="b", client=9))
    assert clients(admitted) == {1: 2, 2: 1}
    assert queue.admit(50, Rules(lane_max={"cpu": 5}), flight(5)) == []


def test_limits_of_client_and_agent_hold_together() -> None:
    queue = Queue().add(key(agent="a", client=1), 9).add(key(agent="b", client=1), 9).add(key(agent="a", client=2), 9)
    admitted = queue.admit(50, Rules(client_max={1: 4}, agent_max={"a": 3}))
    assert clients(admitted)[1] == 4
    assert Counter(group.agent for group in admitted)["a"] == 3


def test_what_is_closed_waits_and_hides_nobody() -> None:
    queue = Queue().add(key(0, agent="open breaker"), 9).add(key(1, client=7), 9).add(key(2), 9).add(key(3), 9)
    rules = Rules(
        closed_agents=frozenset({"open breaker"}),
        closed_clients=frozenset({7}),
        closed_queues=frozenset({("cpu", 2)}),
    )
    assert queue.admit(2, rules) == [key(3)] * 2


def test_an_agent_that_no_worker_has_waits() -> None:
    queue = Queue().add(key(agent="unknown"), 9).add(key(agent="a"), 9)
    assert queue.admit(20, Rules(agents={"cpu": frozenset({"a"})})) == [key(agent="a")] * 9


def test_a_half_open_breaker_lets_one_through() -> None:
    queue = Queue().add(key(), 9)
    rules = Rules(probing=frozenset({"a"}))
    assert queue.admit(5, rules) == [key()]
    assert queue.admit(5, rules, flight(1)) == []


def test_an_agent_gets_no_more_than_its_rate_has_tokens() -> None:
    queue = Queue().add(key(agent="a"), 9).add(key(agent="b"), 2)
    assert Counter(group.agent for group in queue.admit(20, tokens={"a": 3})) == {"a": 3, "b": 2}


def test_sized_tasks_are_placed_where_there_is_room() -> None:
    rules = Rules(workers={"w1": Capacity("cpu", memory_mb=1000), "w2": Capacity("cpu", memory_mb=500)})
    queue = Queue().add(key(agent="big"), 9, memory_mb=400).add(key(agent="small"), 9, memory_mb=100)
    admitted = queue.admit(50, rules, flight(1, worker="w1", memory_mb=400), flight(2, memory_mb=100))
    # w1 has 600 - 200 left, w2 500: two big ones fit, and one small one beside.
    assert Counter(group.agent for group in admitted) == {"big": 2, "small": 1}


def test_what_does_not_fit_lets_smaller_ones_pass_until_it_has_waited_long() -> None:
    rules = Rules(workers={"w": Capacity("cpu", memory_mb=1000)})
    busy = flight(1, worker="w", memory_mb=500)
    small = key(3, agent="small")
    fresh = Queue().add(key(2, agent="big"), 1, memory_mb=800).add(small, 3, memory_mb=100)
    assert fresh.admit(9, rules, busy) == [small] * 3
    aged = Queue().add(key(2, agent="big"), 1, level=1, memory_mb=800).add(small, 3, memory_mb=100)
    assert aged.admit(9, rules, busy) == []
    assert aged.admit(9, rules) == [key(2, agent="big"), small, small]


def test_a_worker_that_says_nothing_has_room_for_all() -> None:
    queue = Queue().add(key(), 3, memory_mb=10_000)
    assert len(queue.admit(9, Rules(workers={"w": Capacity("cpu")}))) == 3
