"""The cpu lane's table of slots, with real forked children."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from tests.live import wait_for
from workers import slots
from workers.slots import SlotTable

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def table() -> SlotTable:
    return SlotTable()


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Runs a function in a child, which then waits to be killed; its pid. Children are reaped at the end."""
    pids: list[int] = []

    def forked(body: Callable[[], object]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                body()
                while True:
                    signal.pause()
            finally:
                os._exit(0)
        pids.append(pid)
        return pid

    yield forked
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def kill(pid: int) -> None:
    """Kills the child and leaves it unreaped, as a pool that has not looked yet."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


Fork = Callable[[Callable[[], object]], int]


def test_an_empty_table_has_nobody(table: SlotTable) -> None:
    assert (table.live(), table.dead(), table.told_to_stop(0, uuid4())) == (set(), set(), False)
    table.stop(uuid4())


def test_the_parent_sees_what_its_children_took_and_cleared(table: SlotTable, fork: Fork) -> None:
    attempts = [uuid4() for _ in range(3)]
    for index, attempt in enumerate(attempts):
        fork(lambda index=index, attempt=attempt: table.take(index, attempt))  # type: ignore[misc]
    wait_for(lambda: table.live() == set(attempts), timeout_s=5)
    assert table.dead() == set()
    table.clear(1)
    assert table.live() == {attempts[0], attempts[2]}


def test_a_child_that_died_is_told_once_even_before_it_is_reaped(table: SlotTable, fork: Fork) -> None:
    attempt, other = uuid4(), uuid4()
    pid = fork(lambda: table.take(0, attempt))
    fork(lambda: table.take(slots.SLOTS_MAX - 1, other))
    wait_for(lambda: table.live() == {attempt, other}, timeout_s=5)
    kill(pid)
    assert table.live() == {other}
    assert table.dead() == {attempt}
    assert table.dead() == set()
    os.waitpid(pid, 0)
    assert table.live() == {other}


def test_a_child_that_was_reaped_by_its_pool_is_dead_too(table: SlotTable, fork: Fork) -> None:
    attempt = uuid4()
    pid = fork(lambda: table.take(0, attempt))
    wait_for(lambda: table.live() == {attempt}, timeout_s=5)
    kill(pid)
    os.waitpid(pid, 0)
    assert (table.live(), table.dead()) == (set(), {attempt})


def test_a_child_that_cleared_its_slot_and_died_lost_no_attempt(table: SlotTable, fork: Fork) -> None:
    attempt, other = uuid4(), uuid4()

    def body() -> None:
        table.take(0, attempt)
        table.clear(0)
        table.take(1, other)

    pid = fork(body)
    wait_for(lambda: table.live() == {other}, timeout_s=5)
    kill(pid)
    assert (table.live(), table.dead()) == (set(), {other})


def test_the_flag_to_stop_reaches_the_child_and_nobody_else(table: SlotTable, fork: Fork) -> None:
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
    table: SlotTable, fork: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, other = uuid4(), uuid4()
    pid = fork(lambda: table.take(0, attempt))
    fork(lambda: table.take(1, other))
    wait_for(lambda: table.live() == {attempt, other}, timeout_s=5)
    table.stop(attempt)
    assert table.live() == {attempt, other}
    monkeypatch.setattr(slots, "STOP_GRACE_S", -1.0)
    table.stop(attempt)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert (table.dead(), table.live()) == ({attempt}, {other})


def test_a_process_that_is_no_child_of_ours_counts_as_dead(table: SlotTable) -> None:
    """Its number may belong to anybody by now."""
    attempt = uuid4()
    table.take(0, attempt)
    assert (table.live(), table.dead()) == (set(), {attempt})


def test_a_child_knows_that_its_worker_shuts_down(table: SlotTable, fork: Fork) -> None:
    seen = uuid4()

    def child() -> None:
        while not table.is_draining():
            time.sleep(0.01)
        table.take(0, seen)

    fork(child)
    assert table.live() == set()
    table.drain()
    wait_for(lambda: table.live() == {seen}, timeout_s=5)


def test_a_worker_that_exits_kills_the_children_that_still_work_and_no_others(table: SlotTable, fork: Fork) -> None:
    attempt, ended = uuid4(), uuid4()
    busy, idle = fork(lambda: table.take(0, attempt)), fork(lambda: table.take(1, ended))
    wait_for(lambda: table.live() == {attempt, ended}, timeout_s=5)
    table.clear(1)
    table.kill()
    assert os.WTERMSIG(os.waitpid(busy, 0)[1]) == signal.SIGKILL
    assert os.waitpid(idle, os.WNOHANG) == (0, 0)
