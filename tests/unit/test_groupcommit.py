"""Group commit: who arrives together is written together, in order, and suffers only for itself (DESIGN D3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from django.db import connection

from tasks_app import groupcommit
from tasks_app.engine import Created
from tasks_app.groupcommit import Flusher
from tasks_app.models import Client, Task
from tasks_app.web import close_web, web
from tests.factory import new_task
from tests.protocol.doors import rows


class Poison(Exception):
    """One item of the list is bad."""


class Store:
    """Writes numbers, all of a batch or none. Negative ones are poison; zero breaks the store."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.tried = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def flush(self, items: Sequence[int]) -> list[int]:
        self.tried += 1
        await self.gate.wait()
        if 0 in items:
            raise ConnectionError("the store is away")
        if any(item < 0 for item in items):
            raise Poison
        self.batches.append(list(items))
        return [item * 10 for item in items]

    def flusher(self, **options: object) -> Flusher[int, int]:
        return Flusher(self.flush, is_poison=lambda error: isinstance(error, Poison), **options)  # type: ignore[arg-type]


async def submitted(flusher: Flusher[int, int], *items: int) -> list[asyncio.Task[int]]:
    """A caller for each item, in order, all of them waiting."""
    callers = [asyncio.create_task(flusher.submit(item)) for item in items]
    await asyncio.sleep(0)
    return callers


async def outcomes(callers: Sequence[asyncio.Task[int]]) -> list[object]:
    return list(await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), timeout=5))


async def test_a_lone_caller_waits_for_nobody() -> None:
    store = Store()
    assert await store.flusher().submit(1) == 10
    assert store.batches == [[1]]


async def test_who_comes_while_a_batch_is_written_goes_together_with_the_next() -> None:
    store = Store()
    flusher = store.flusher()
    store.gate.clear()
    first = await submitted(flusher, 1)
    await asyncio.sleep(0)
    late = await submitted(flusher, 2, 3, 4)
    store.gate.set()
    assert await outcomes([*first, *late]) == [10, 20, 30, 40]
    assert store.batches == [[1], [2, 3, 4]]


async def test_items_are_written_first_in_first_out() -> None:
    store = Store()
    flusher = store.flusher()
    callers = []
    for number in range(1, 100):
        callers += await submitted(flusher, number)
    assert await outcomes(callers) == [number * 10 for number in range(1, 100)]
    assert [item for batch in store.batches for item in batch] == list(range(1, 100))


@pytest.mark.parametrize("bad", [{0}, {7}, {3, 4}, {0, 7}, set(range(8))])
async def test_a_poisoned_item_fails_alone(bad: set[int]) -> None:
    store = Store()
    numbers = [-(place + 1) if place in bad else place + 1 for place in range(8)]
    results = await outcomes(await submitted(store.flusher(), *numbers))
    for number, result in zip(numbers, results, strict=True):
        assert isinstance(result, Poison) if number < 0 else result == number * 10
    assert [item for batch in store.batches for item in batch] == [number for number in numbers if number > 0]


async def test_finding_one_poisoned_item_among_many_takes_few_writes() -> None:
    store = Store()
    await outcomes(await submitted(store.flusher(), *range(1, 256), -1))
    assert store.tried <= 2 * 8 + 1


async def test_a_broken_flush_fails_all_its_callers_once_and_the_next_batch_is_written() -> None:
    store = Store()
    flusher = store.flusher()
    broken = await outcomes(await submitted(flusher, 1, 0, 2))
    assert [type(result) for result in broken] == [ConnectionError] * 3
    assert store.tried == 1
    assert await flusher.submit(3) == 30


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_flush_that_answers_for_too_few_or_too_many_fails_all_its_callers(count: int) -> None:
    async def flush(items: Sequence[int]) -> list[int]:
        return [1] * count

    flusher: Flusher[int, int] = Flusher(flush)
    results = await outcomes(await submitted(flusher, 1, 2))
    assert [type(result) for result in results] == [RuntimeError] * 2


async def test_a_batch_is_cut_at_its_items() -> None:
    store = Store()
    await outcomes(await submitted(store.flusher(max_items=4), *range(1, 11)))
    assert [len(batch) for batch in store.batches] == [4, 4, 2]


async def test_a_batch_is_cut_at_its_bytes_and_one_that_is_larger_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groupcommit, "MAX_BYTES", 100)
    store = Store()
    await outcomes(await submitted(store.flusher(size_bytes=lambda item: item), 60, 60, 500, 1, 99, 1))
    assert store.batches == [[60, 60], [500], [1, 99], [1]]


async def test_a_caller_that_gives_up_breaks_nobody() -> None:
    store = Store()
    flusher = store.flusher()
    store.gate.clear()
    callers = await submitted(flusher, 1, 2, 3)
    await asyncio.sleep(0)
    waiting = await submitted(flusher, 4, 5)
    for caller in (callers[1], waiting[0]):
        caller.cancel()
    store.gate.set()
    results = await outcomes([*callers, *waiting])
    assert [results[index] for index in (0, 2, 4)] == [10, 30, 50]
    assert isinstance(results[1], asyncio.CancelledError)
    assert isinstance(results[3], asyncio.CancelledError)


async def test_a_caller_that_gives_up_leaves_a_poisoned_batch_to_be_halved() -> None:
    store = Store()
    flusher = store.flusher()
    store.gate.clear()
    callers = await submitted(flusher, 1, -2, 3)
    callers[1].cancel()
    store.gate.set()
    results = await outcomes(callers)
    assert (results[0], results[2]) == (10, 30)


async def test_draining_waits_for_everything() -> None:
    store = Store()
    flusher = store.flusher()
    await flusher.drain()
    callers = await submitted(flusher, 1, 2, 3)
    await flusher.drain()
    assert store.batches == [[1, 2, 3]]
    assert await outcomes(callers) == [10, 20, 30]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", [0, 25, 50])
def test_of_51_submits_together_the_one_with_a_nul_fails_alone(place: int) -> None:
    """PostgreSQL's jsonb keeps no NUL: what validation lets through must not take the others down."""
    owner = Client.objects.create(name="owner")
    items = [new_task(owner, parameters={"text": "\x00" if n == place else "good"}) for n in range(51)]

    async def submit_all() -> list[object]:
        try:
            return list(await asyncio.gather(*[web().submit(item) for item in items], return_exceptions=True))
        finally:
            await close_web()

    results = asyncio.run(submit_all())
    assert [n for n, result in enumerate(results) if not isinstance(result, Created)] == [place]
    assert rows() == (50, 50, 50)
    assert items[place].id not in set(Task.objects.values_list("id", flat=True))
    assert connection.is_usable()
