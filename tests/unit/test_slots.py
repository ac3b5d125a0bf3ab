"""The cpu lane's table of slots, with real forked children."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks_app.policies import BOUNDLESS, Resources, together
from tests.children import Children, died
from tests.live import wait_for
from workers import room, slots
from workers.slot_memory import SLOTS_MAX
from workers.slots import SlotTable

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def table() -> SlotTable:
    return SlotTable()


@pytest.fixture
def fork() -> Iterator[Children]:
    children = Children()
    yield children
    children.end()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    died(pid)


def ended(table: SlotTable) -> dict[UUID, int | None]:
    return {exit.attempt_id: exit.status for exit in table.exits()}


def takes_and_exits(table: SlotTable, attempt: UUID) -> None:
    table.take(0, attempt)
    os._exit(7)


def test_an_empty_table_has_nobody(table: SlotTable) -> None:
    assert (table.live(), table.exits(), table.told_to_stop(0, uuid4())) == (set(), [], False)
    table.stop(uuid4())


def test_the_parent_sees_what_its_children_took_and_cleared(table: SlotTable, fork: Children) -> None:
    attempts = [uuid4() for _ in range(3)]
    for index, attempt in enumerate(attempts):
        fork(lambda index=index, attempt=attempt: table.take(index, attempt))  # type: ignore[misc]
    wait_for(lambda: table.live() == set(attempts), timeout_s=5)
    assert table.exits() == []
    table.clear(1)
    assert table.live() == {attempts[0], attempts[2]}


def test_a_child_that_died_is_told_once_even_before_it_is_reaped(table: SlotTable, fork: Children) -> None:
    attempt, other = uuid4(), uuid4()
    pid = fork(lambda: table.take(0, attempt))
    fork(lambda: table.take(SLOTS_MAX - 1, other))
    wait_for(lambda: table.live() == {attempt, other}, timeout_s=5)
    kill(pid)
    assert table.live() == {other}
    assert ended(table) == {attempt: -signal.SIGKILL}
    assert table.exits() == []
    os.waitpid(pid, 0)
    assert table.live() == {other}


def test_the_pool_that_reaped_a_child_is_asked_for_its_status(table: SlotTable, fork: Children) -> None:
    attempt = uuid4()
    statuses: list[int | None] = [None, 7]
    pid = fork(lambda: takes_and_exits(table, attempt))
    table.forked(pid, lambda: statuses.pop(0))
    os.waitpid(pid, 0)
    assert (table.live(), table.exits()) == (set(), [])  # it does not know yet
    assert (ended(table), table.live()) == ({attempt: 7}, set())


def test_a_child_whose_status_nobody_knows_is_dead_too(
    table: SlotTable, fork: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = uuid4()
    pid = fork(lambda: takes_and_exits(table, attempt))
    os.waitpid(pid, 0)
    assert table.exits() == []
    monkeypatch.setattr(slots, "STATUS_GRACE_S", -1.0)
    assert (ended(table), table.live()) == ({attempt: None}, set())


def test_what_died_is_on_record_before_another_child_takes_its_slot(table: SlotTable, fork: Children) -> None:
    first, second = uuid4(), uuid4()
    pid = fork(lambda: takes_and_exits(table, first))
    table.forked(pid, lambda: 7)
    os.waitpid(pid, 0)
    table.reaped(pid)
    fork(lambda: table.take(0, second))
    wait_for(lambda: table.live() == {second}, timeout_s=5)
    assert ended(table) == {first: 7}


def test_a_child_that_cleared_its_slot_and_died_lost_no_attempt(table: SlotTable, fork: Children) -> None:
    attempt, other = uuid4(), uuid4()

    def body() -> None:
        table.take(0, attempt)
        table.clear(0)
        table.take(1, other)

    pid = fork(body)
    wait_for(lambda: table.live() == {other}, timeout_s=5)
    kill(pid)
    assert (table.live(), ended(table)) == (set(), {other: -signal.SIGKILL})


def test_the_flag_to_stop_reaches_the_child_and_nobody_else(table: SlotTable, fork: Children) -> None:
    attempt, other = uuid4(), uuid4()
    reader, writer = os.pipe()

    def body() -> None:
        table.take(3, attempt)
        while not table.told_to_stop(3, attempt):
            time.sleep(0.005)
        os.write(writer, b"stopped")

    fork(body)
    fork(lambda: table.take(4, other))
    wait_for(lambda: table.live() == {attempt, other}, timeout_s=5)
    table.stop(attempt)
    assert os.read(reader, 10) == b"stopped"
    assert table.told_to_stop(3, attempt)
    assert not table.told_to_stop(4, other)
    os.close(reader)
    os.close(writer)


def test_the_next_attempt_of_a_slot_is_not_told_to_stop(table: SlotTable) -> None:
    first, second = uuid4(), uuid4()
    table.take(0, first)
    table.stop(first)
    assert table.told_to_stop(0, first)
    table.clear(0)
    table.take(0, second)
    table.stop(first)
    assert not table.told_to_stop(0, second)


def test_a_handler_that_goes_on_past_the_grace_is_killed_with_its_process(
    table: SlotTable, fork: Children, settings: Any
) -> None:
    attempt, other = uuid4(), uuid4()
    pid = fork(lambda: table.take(0, attempt))
    fork(lambda: table.take(1, other))
    wait_for(lambda: table.live() == {attempt, other}, timeout_s=5)
    table.stop(attempt)
    assert table.live() == {attempt, other}
    settings.A2A_STOP_GRACE_S = -1.0
    table.stop(attempt)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    table.forked(pid, lambda: -signal.SIGKILL)
    assert (ended(table), table.live()) == ({attempt: -signal.SIGKILL}, {other})


def test_a_slot_that_runs_another_attempt_by_now_is_not_killed(table: SlotTable, fork: Children) -> None:
    first, second = uuid4(), uuid4()
    go, told = os.pipe()

    def body() -> None:
        table.take(0, first)
        os.read(go, 1)
        table.take(0, second)

    pid = fork(body)
    wait_for(lambda: table.live() == {first}, timeout_s=5)
    slot = table.slots()[0]
    os.write(told, b"x")
    wait_for(lambda: table.live() == {second}, timeout_s=5)
    assert not table.kill(slot)
    assert table.kill(table.slots()[0])
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    os.close(go)
    os.close(told)


def test_a_process_that_is_no_child_of_ours_counts_as_dead(table: SlotTable) -> None:
    """Its number may belong to anybody by now."""
    table.take(0, uuid4())
    assert table.live() == set()


def test_a_handler_is_silent_when_no_sign_of_life_came_in_time(table: SlotTable) -> None:
    silent, loud, free = uuid4(), uuid4(), uuid4()
    for index, (attempt, limit_s) in enumerate([(silent, 1e-9), (loud, 60.0), (free, None)]):
        table.take(index, attempt, heartbeat_timeout_s=limit_s)
    assert table.silent() == set()  # no handler runs yet
    for index in range(3):
        table.handle(index, rss_bytes=0, cpu_s=0.0)
    assert table.silent() == {silent}
    table.stop(silent)
    assert table.silent() == set()  # said once: it is being stopped
    table.take(0, silent, heartbeat_timeout_s=1e-9)
    table.handle(0, rss_bytes=0, cpu_s=0.0)
    table.handled(0)
    assert table.silent() == set()  # its handler has ended


def test_a_sign_of_life_moves_the_silence_on(table: SlotTable, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    attempt = uuid4()
    table.take(0, attempt, heartbeat_timeout_s=5.0)
    table.handle(0, rss_bytes=0, cpu_s=0.0)
    now_s = 104.0
    table.touch(0)
    now_s = 108.0
    assert table.silent() == set()
    now_s = 109.5
    assert table.silent() == {attempt}


def test_what_all_slots_use_is_summed_in_any_process(table: SlotTable, fork: Children) -> None:
    asked = [Resources(memory_mb=100, cores=0.5, disk_mb=10), Resources(memory_mb=50), Resources(cores=1.0, cpu_s=9)]
    for index, each in enumerate(asked):
        fork(lambda index=index, each=each: table.take(index, uuid4(), asked=each))  # type: ignore[misc]
    wait_for(lambda: len(table.live()) == 3, timeout_s=5)
    assert table.in_use() == Resources(memory_mb=150, cores=1.5, disk_mb=10)
    assert [slot.asked for slot in table.slots()] == asked
    table.clear(0)
    assert table.in_use() == Resources(memory_mb=50, cores=1.0)


@pytest.mark.parametrize(
    ("capacity", "fits"),
    [
        (Resources(), True),
        (Resources(memory_mb=150, cores=2.0, disk_mb=10), True),
        (Resources(memory_mb=149), False),
        (Resources(cores=1.9), False),
        (Resources(disk_mb=9), False),
    ],
)
def test_what_runs_fits_or_not(table: SlotTable, capacity: Resources, fits: bool) -> None:
    table.take(0, uuid4(), asked=Resources(memory_mb=100, cores=1.0, disk_mb=10))
    table.take(1, uuid4(), asked=Resources(memory_mb=50, cores=1.0))
    assert room.within(table.in_use(), capacity) is fits


def test_of_two_that_start_at_once_none_overlooks_the_other(table: SlotTable, fork: Children) -> None:
    """Both write before either sums: a capacity for one is never given to two."""
    barrier, answers = multiprocessing.Barrier(2), os.pipe()

    def body(index: int) -> None:
        for _ in range(200):
            barrier.wait()
            table.take(index, uuid4(), asked=Resources(memory_mb=60))
            fits = room.within(table.in_use(), Resources(memory_mb=100))
            if not fits:
                table.clear(index)
            barrier.wait()
            os.write(answers[1], b"1" if fits else b"0")
            barrier.wait()
            table.clear(index)

    for index in range(2):
        fork(lambda index=index: body(index))  # type: ignore[misc]
    for _ in range(200):
        assert os.read(answers[0], 1) + os.read(answers[0], 1) != b"11"
    for end in answers:
        os.close(end)


def test_a_child_knows_that_its_worker_shuts_down(table: SlotTable, fork: Children) -> None:
    seen = uuid4()

    def child() -> None:
        while not table.is_draining():
            time.sleep(0.01)
        table.take(0, seen)

    fork(child)
    assert table.live() == set()
    table.drain()
    wait_for(lambda: table.live() == {seen}, timeout_s=5)


def test_a_worker_that_exits_kills_the_children_that_still_work_and_no_others(table: SlotTable, fork: Children) -> None:
    attempt, ended = uuid4(), uuid4()
    busy, idle = fork(lambda: table.take(0, attempt)), fork(lambda: table.take(1, ended))
    wait_for(lambda: table.live() == {attempt, ended}, timeout_s=5)
    table.clear(1)
    table.kill_all()
    assert os.WTERMSIG(os.waitpid(busy, 0)[1]) == signal.SIGKILL
    assert os.waitpid(idle, os.WNOHANG) == (0, 0)


def test_what_is_left_is_offered_and_what_is_not_said_has_no_end() -> None:
    used = Resources(memory_mb=60, cores=3.0)
    left = room.left(Resources(memory_mb=100, cores=2.0), used)
    assert (left.memory_mb, left.cores, left.disk_mb) == (40, 0, BOUNDLESS.disk_mb)
    assert together([used, used]) == Resources(memory_mb=120, cores=6.0)
