"""kill -9 of every process in the middle of a mixed load; then it is started again (DESIGN 9.3, 9.4, 9.8).

Whatever dies: every task ends once, as was asked, every attempt beyond the first has the cause of its forerunner's end
on record, and no slot stays taken. The judge of all that is the ledger that the handlers keep (``judge.py``).
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.load import Load, timed
from tests.faults.processes import every_slot_works, is_gone, kill_busy, put_back, second
from tests.live import TIMES, Live, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


@pytest.mark.parametrize("name", ["dispatcher", "beat", "web", "worker-system"])
def test_killing_a_process_that_holds_no_attempt_costs_no_attempt(live: Live, load: Load, name: str) -> None:
    load.under_way()
    live.stack.kill(name)
    live.stack.start_process(name)
    load.ends_well()
    assert load.losses() == []


@pytest.mark.parametrize("name", ["worker-cpu", "worker-io"])
def test_the_tasks_of_a_killed_worker_run_again_with_the_cause_on_record(live: Live, load: Load, name: str) -> None:
    """Once, though two beats ask for it."""
    with second(live, "beat") as beat:
        load.under_way()
        kill_busy(live, name)
        live.stack.start_process(name)
        load.ends_well()
        assert beat.pid, beat.log
    assert set(load.losses()) == {"lease_expired"}
    every_slot_works(live)


def test_a_child_dies_with_its_worker_whatever_its_handler_does(live: Live) -> None:
    """Nobody would extend its lease, and nobody could stop it."""
    task_id = live.submit("stubborn")
    pid = live.running(task_id)["attempts"][0]["pid"]
    os.kill(live.stack.pid("worker-cpu"), signal.SIGKILL)
    wait_for(lambda: is_gone(pid), timeout_s=10, what="its child is gone")
    assert live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200
    put_back(live)
    every_slot_works(live)


def test_a_killed_child_is_noticed_at_once_and_its_task_runs_again(live: Live) -> None:
    load = Load(live)
    task_id = load.submit(timed("ledger-cpu", seconds=2)).task_id
    live.running(task_id)
    os.kill(live.task(task_id)["attempts"][0]["pid"], signal.SIGKILL)
    load.ends_well()
    assert load.losses() == ["process_lost"]
    query = "SELECT ended_at - claimed_at < make_interval(secs => %s) FROM tasks_app_taskattempt WHERE task_id = %s"
    assert live.sql(f"{query} AND number = 1", float(TIMES["A2A_LEASE_S"]), task_id) == [(True,)]
    every_slot_works(live)


def test_a_handler_that_kills_its_process_every_time_ends_as_failed(live: Live) -> None:
    task_id = live.submit("sleep-cpu", parameters={"seconds": 30, "steps": 30})
    killed: set[int] = set()

    def kill_next() -> bool:
        task = live.task(task_id)
        if task["status"] == "failed":
            return True
        pids = {attempt["pid"] for attempt in task["attempts"] if attempt["ended_at"] is None} - killed
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        return False

    wait_for(kill_next, timeout_s=90, what="the attempts are spent")
    task = live.task(task_id)
    assert (task["attempt"], task["error"]["code"]) == (task["max_attempts"], "attempts_exhausted")
    every_slot_works(live)


def test_with_dispatcher_beat_and_system_worker_dead_leases_are_still_rescued_by_the_next_dispatcher(
    live: Live, load: Load
) -> None:
    load.under_way()
    for name in ("beat", "worker-system", "worker-cpu", "dispatcher"):
        live.stack.kill(name)
    live.stack.start_process("dispatcher")
    live.stack.start_process("worker-cpu")
    load.ends_well()
    assert set(load.losses()) == {"lease_expired"}


def test_with_every_process_dead_starting_them_again_finishes_every_task(live: Live, load: Load) -> None:
    load.under_way()
    names = [process.name for process in live.stack.app_processes()]
    for name in names:
        live.stack.kill(name)
    for name in names:
        live.stack.start_process(name)
    load.ends_well()
    every_slot_works(live)


def test_a_dispatcher_that_stood_by_takes_over_from_one_that_was_killed(live: Live, load: Load) -> None:
    with second(live, "dispatcher") as other:
        load.under_way()
        live.stack.kill("dispatcher")
        load.send([timed("ledger-io", seconds=0.1) for _ in range(20)])  # it does not get by on what was admitted
        load.ends_well()
        assert "dispatcher: active" in other.log
        assert load.losses() == []
        live.stack.start_process("dispatcher")
        again = Load(live)
        again.submit(timed("ledger-io", seconds=0.1))
        again.ends_well()
    put_back(live)
