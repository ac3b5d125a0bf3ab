"""The doorbell: it says «look», on real Redis; without it everybody polls and nobody raises."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks_app import hub as hubs
from tasks_app import wakeups
from tasks_app.hub import Hub
from tasks_app.models import Client
from tasks_app.status import Priority
from tasks_app.wakeups import (
    DISPATCH,
    TASKS,
    AsyncBell,
    Bell,
    Ear,
    accepted,
    arrived,
    merged,
    rings,
    worker_channel,
)
from tests.factory import new_task

#: A port on which nobody listens: connecting is refused.
AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture
def redis_url(services: dict[str, str], settings: Any) -> str:
    settings.REDIS_URL = services["REDIS_URL"]
    return services["REDIS_URL"]


@pytest.fixture
def away(settings: Any) -> None:
    settings.REDIS_URL = AWAY


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear(f"a2a:test:{uuid4()}")
    yield made
    made.close()


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    made = Hub(Latest())
    yield made
    await made.close()


class Latest:
    """The newest generations, as the database would say."""

    def __init__(self) -> None:
        self.generations: dict[UUID, int] = {}
        self.asked: list[set[UUID]] = []
        self.broken = 0

    async def __call__(self, task_ids: list[UUID]) -> dict[UUID, int]:
        self.asked.append(set(task_ids))
        if self.broken:
            self.broken -= 1
            raise ConnectionError("the database is away")
        return {task_id: self.generations[task_id] for task_id in task_ids if task_id in self.generations}


# What is rung --------------------------------------------------------------------------------------------------------


def test_rings_name_the_tasks_and_the_slots_they_freed() -> None:
    one, two = uuid4(), uuid4()
    assert rings("io", [one, two]) == [(TASKS, str(one)), (TASKS, str(two))]
    assert rings("io", [one], freed=2, settled=True) == [(TASKS, f"!{one}"), (DISPATCH, "io:2")]
    assert rings("io", []) == []


def test_merging_rings_every_channel_once_adds_up_the_slots_and_names_the_most_urgent_arrival() -> None:
    one, two = uuid4(), uuid4()
    bells = [*rings("io", [one, two], freed=1), *rings("io", [one], freed=2), *rings("cpu", [two], freed=4)]
    bells += [(DISPATCH, ""), (worker_channel("w"), ""), (DISPATCH, ""), *arrived([3, 1]), *arrived([2]), *arrived([])]
    assert merged(bells) == [
        (TASKS, f"{one} {two}"),
        (DISPATCH, ""),
        (worker_channel("w"), ""),
        (DISPATCH, "io:3"),
        (DISPATCH, "cpu:4"),
        (DISPATCH, "new:1"),
    ]
    assert merged([]) == []


def test_what_was_accepted_is_rung_for_by_its_groups_unless_they_are_many(owner: Client) -> None:
    normal, low = new_task(owner), new_task(owner, priority=Priority.LOW)
    other = replace(normal, client_id=owner.pk + 1)
    bells = accepted([low, normal, other, normal])
    texts = [f"new:2:io:{owner.pk}:echo", f"new:2:io:{owner.pk + 1}:echo", f"new:3:io:{owner.pk}:echo"]
    assert bells == [(DISPATCH, text) for text in texts]
    assert merged([*bells, *arrived([1]), *bells]) == [*bells, (DISPATCH, "new:1")]
    many = [replace(low, client_id=number) for number in range(wakeups.GROUPS_MAX + 1)]
    assert accepted(many) == [(DISPATCH, "new:3")]


# On real Redis -------------------------------------------------------------------------------------------------------


@pytest.mark.services
def test_an_ear_hears_what_was_rung_in_order(redis_url: str, ear: Ear) -> None:
    assert ear.wait(0.01) == []
    bell = Bell()
    bell.ring([(ear._channel, "io:1"), (ear._channel, ""), ("a2a:elsewhere", "x"), (ear._channel, "cpu:2")])
    heard: list[str] = []
    while len(heard) < 3:
        texts = ear.wait(2)
        assert texts
        heard += texts
    assert heard == ["io:1", "", "cpu:2"]
    assert ear.wait(0.01) == []


@pytest.mark.services
def test_installations_with_different_prefixes_do_not_hear_each_other(redis_url: str, ear: Ear, settings: Any) -> None:
    settings.A2A_QUEUE_PREFIX = "staging."
    ear.wait(0.01)
    settings.A2A_QUEUE_PREFIX = ""
    Bell().ring([(ear._channel, "production's")])
    settings.A2A_QUEUE_PREFIX = "staging."
    Bell().ring([(ear._channel, "staging's")])
    assert ear.wait(5) == ["staging's"]


@pytest.mark.services
def test_an_ear_that_waits_is_woken_at_once(redis_url: str, ear: Ear) -> None:
    ear.wait(0.01)
    threading.Timer(0.1, lambda: Bell().ring([(ear._channel, "now")])).start()
    started = time.monotonic()
    assert ear.wait(10) == ["now"]
    assert time.monotonic() - started < 5


@pytest.mark.services
async def test_what_is_rung_on_a_loop_in_one_go_is_merged(redis_url: str, ear: Ear) -> None:
    await asyncio.to_thread(ear.wait, 0.01)
    bell = AsyncBell()
    for _ in range(50):
        bell.ring([(ear._channel, "")])
    assert await asyncio.to_thread(ear.wait, 2) == [""]


@pytest.mark.services
async def test_a_follower_is_woken_by_the_bell_of_its_task_only(
    redis_url: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "POLL_S", 60.0)
    mine, other = uuid4(), uuid4()
    with hub.follow(mine) as changed, hub.follow(other) as unchanged:
        await asyncio.wait_for(changed.wait(), timeout=5)  # the hub listens: look once, for what was rung before
        await asyncio.wait_for(unchanged.wait(), timeout=5)
        changed.clear()
        unchanged.clear()
        AsyncBell().ring(rings("io", [mine]))
        await asyncio.wait_for(changed.wait(), timeout=5)
        assert not unchanged.is_set()


@pytest.mark.services
async def test_who_follows_later_is_heard_too_and_who_left_is_forgotten(
    redis_url: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "POLL_S", 60.0)
    first, later = uuid4(), uuid4()
    with hub.follow(first) as changed:
        await asyncio.wait_for(changed.wait(), timeout=5)
        with hub.follow(later) as one, hub.follow(later) as two:
            AsyncBell().ring(rings("io", [later]))
            await asyncio.wait_for(asyncio.gather(one.wait(), two.wait()), timeout=5)
        assert (hub.follows(first), hub.follows(later)) == (True, False)
    assert not hub.follows(first)


@pytest.mark.services
async def test_who_waits_for_the_end_is_not_woken_by_what_comes_before(
    redis_url: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "POLL_S", 60.0)
    task_id, bell = uuid4(), AsyncBell()
    with hub.follow(task_id) as changed, hub.follow(task_id, to_settle=True) as settled:
        await asyncio.wait_for(asyncio.gather(changed.wait(), settled.wait()), timeout=5)
        changed.clear()
        settled.clear()
        bell.ring(rings("io", [task_id]))
        await asyncio.wait_for(changed.wait(), timeout=5)
        assert not settled.is_set()
        bell.ring(rings("io", [task_id], settled=True))
        await asyncio.wait_for(settled.wait(), timeout=5)


@pytest.mark.services
async def test_a_hub_that_is_closed_leaves_no_task_behind_wherever_it_was(redis_url: str) -> None:
    for steps in range(100):
        hub = Hub(Latest())
        with hub.follow(uuid4()):
            for _ in range(steps % 50):  # turns of the event loop: it connects, subscribes, listens
                await asyncio.sleep(0)
        ears = list(hub._ears.values())
        await asyncio.wait_for(hub.close(), timeout=10)
        assert [ear.done() for ear in ears] == [True, True]


# With Redis away -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [AWAY, ""])
def test_a_bell_without_redis_is_silent_and_quick(settings: Any, url: str) -> None:
    settings.REDIS_URL = url
    bell = Bell()
    started = time.monotonic()
    for _ in range(100):
        bell.ring([(DISPATCH, "io:1")])
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("url", [AWAY, ""])
async def test_an_async_bell_without_redis_holds_nobody_up(settings: Any, url: str) -> None:
    settings.REDIS_URL = url
    bell = AsyncBell()
    for _ in range(100):
        bell.ring([(DISPATCH, "io:1")])
        await asyncio.sleep(0.001)
    assert len(bell._waiting) <= 100
    if bell._ringer is not None:
        await asyncio.wait_for(bell._ringer, timeout=2 * wakeups.RETRY_S + 1)
        assert bell._ringer.exception() is None


@pytest.mark.parametrize("url", [AWAY, ""])
def test_an_ear_without_redis_waits_as_long_as_it_was_told(settings: Any, ear: Ear, url: str) -> None:
    settings.REDIS_URL = url
    started = time.monotonic()
    assert ear.wait(0.2) == []
    assert ear.wait(0.2) == []
    assert 0.4 <= time.monotonic() - started < 1.5


def test_an_ear_is_not_held_up_by_a_redis_that_takes_connections_and_never_answers(settings: Any, ear: Ear) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings.REDIS_URL = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        started = time.monotonic()
        assert [ear.wait(0.01) for _ in range(4)] == [[]] * 4
        assert time.monotonic() - started < 5


def test_an_ear_hears_again_when_redis_is_back(services: dict[str, str], settings: Any, ear: Ear) -> None:
    settings.REDIS_URL = AWAY
    assert ear.wait(0.2) == []
    settings.REDIS_URL = services["REDIS_URL"]
    assert ear.wait(0.01) == []
    Bell().ring([(ear._channel, "back")])
    assert ear.wait(5) == ["back"]


@pytest.mark.parametrize("url", [AWAY, ""])
async def test_a_follower_is_woken_by_the_poll_alone_when_no_bell_rings(
    settings: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "POLL_S", 0.02)
    settings.REDIS_URL = url
    latest = Latest()
    hub, task_id = Hub(latest), uuid4()
    try:
        with hub.follow(task_id) as changed:
            for generation in (1, 2):
                latest.generations[task_id] = generation
                changed.clear()
                await asyncio.wait_for(changed.wait(), timeout=10)
    finally:
        await hub.close()
    assert latest.asked[:2] == [{task_id}] * 2


async def test_one_poll_asks_for_all_and_wakes_those_that_changed(away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "POLL_S", 0.02)
    latest = Latest()
    hub, mine, other = Hub(latest), uuid4(), uuid4()
    latest.generations = {mine: 1, other: 1}
    try:
        with hub.follow(mine) as changed, hub.follow(other) as unchanged:
            await asyncio.wait_for(asyncio.gather(changed.wait(), unchanged.wait()), timeout=2)
            changed.clear()
            unchanged.clear()
            latest.generations[mine] = 2
            await asyncio.wait_for(changed.wait(), timeout=2)
            assert not unchanged.is_set()
            assert latest.asked[-1] == {mine, other}
    finally:
        await hub.close()


async def test_a_poll_that_fails_is_tried_again(away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "POLL_S", 0.02)
    latest = Latest()
    latest.broken = 3
    hub, task_id = Hub(latest), uuid4()
    latest.generations[task_id] = 1
    try:
        with hub.follow(task_id) as changed:
            await asyncio.wait_for(changed.wait(), timeout=2)
    finally:
        await hub.close()
    assert len(latest.asked) == 4


async def test_nobody_is_polled_for_when_nobody_follows(away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "POLL_S", 0.01)
    latest = Latest()
    hub = Hub(latest)
    try:
        with hub.follow(uuid4()):
            pass
        latest.asked.clear()
        await asyncio.sleep(0.05)
        assert latest.asked == []
    finally:
        await hub.close()
