"""SIGSTOP and SIGCONT: a process that does nothing for a while, and then goes on as if nothing had happened.

What it writes late changes nothing (DESIGN D5, 9.3): the ledger shows that it tried, and the judge that it failed.
"""

from __future__ import annotations

from typing import Any

import pytest

from stack import Services
from tests.faults import ledger
from tests.faults.load import Load, late, timed
from tests.faults.processes import children, every_slot_works, family, put_back, second, stopped
from tests.live import Live, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


def noted(live: Live, kind: str, task_id: str, attempt: int) -> list[ledger.Entry]:
    """What this attempt's handler wrote into the ledger."""
    wanted = (kind, task_id, attempt)
    return [entry for entry in ledger.read(live.ledger) if (entry.kind, entry.task, entry.attempt) == wanted]


def attempts(live: Live, task_id: str) -> list[Any]:
    query = "SELECT outcome FROM tasks_app_taskattempt WHERE task_id = %s ORDER BY number"
    return [row[0] for row in live.sql(query, task_id)]


def test_a_child_whose_worker_is_stopped_past_the_lease_writes_late_and_in_vain(live: Live) -> None:
    load = Load(live)
    task_id = load.submit(late("ledger-late", seconds=10)).task_id
    live.running(task_id)
    with stopped([live.stack.pid("worker-cpu")]):
        wait_for(lambda: attempts(live, task_id) == ["lease_expired"], what="its task is rescued")
        wait_for(lambda: noted(live, ledger.EFFECT, task_id, 1), what="the child has its effect nevertheless")
    load.ends_well()
    assert attempts(live, task_id) == ["lease_expired", "completed"]
    assert noted(live, ledger.EFFECT, task_id, 2)
    every_slot_works(live)


@pytest.mark.parametrize(("agent", "process"), [("ledger-late", "worker-cpu"), ("ledger-late-io", "worker-io")])
def test_a_worker_that_was_stopped_past_the_lease_writes_in_vain_while_its_task_runs_again(
    live: Live, agent: str, process: str
) -> None:
    load = Load(live)
    task_id = load.submit(late(agent, seconds=2, again_s=5)).task_id
    live.running(task_id)
    with second(live, process) as other:
        with stopped(family(live.stack.pid(process))):
            wait_for(lambda: attempts(live, task_id) == ["lease_expired", None], what="the second worker runs it")
        wait_for(lambda: noted(live, ledger.END, task_id, 1), what="the first one's handler goes on to its end")
        assert attempts(live, task_id) == ["lease_expired", None], other.log
        load.ends_well()
    assert attempts(live, task_id) == ["lease_expired", "completed"]
    assert noted(live, ledger.EFFECT, task_id, 1)


def test_a_child_that_is_stopped_keeps_its_lease_while_its_worker_lives(live: Live) -> None:
    """Its process lives and its time is not up: nobody may run it a second time."""
    load = Load(live)
    task_id = load.submit(late("ledger-late", seconds=1)).task_id
    pid = live.running(task_id)["attempts"][0]["pid"]
    lease = "SELECT now() > claimed_at + interval '8 seconds' FROM tasks_app_taskattempt WHERE task_id = %s"
    with stopped([pid]):
        wait_for(lambda: live.sql(lease, task_id)[0][0], what="more than a lease has passed")
        assert attempts(live, task_id) == [None]
    load.ends_well()
    assert attempts(live, task_id) == ["completed"]


def test_a_child_that_is_stopped_when_its_task_is_cancelled_writes_late_and_in_vain(live: Live) -> None:
    load = Load(live)
    item = load.submit(late("ledger-late", seconds=1))
    pid = live.running(item.task_id)["attempts"][0]["pid"]
    with stopped([pid]):
        load.cancel(item)
        assert item.cancel_taken
    load.ends_well()
    assert live.task(item.task_id)["artifacts"] == []
    every_slot_works(live)


def test_a_child_that_stays_stopped_after_a_cancel_is_killed_and_its_slot_lives_on(live: Live) -> None:
    load = Load(live)
    item = load.submit(late("ledger-late", seconds=1))
    pid = live.running(item.task_id)["attempts"][0]["pid"]
    with stopped([pid]):
        load.cancel(item)
        wait_for(lambda: pid not in children(live.stack.pid("worker-cpu")), timeout_s=30, what="it is killed")
    load.ends_well()
    every_slot_works(live)


def test_a_dispatcher_that_is_stopped_gives_way_to_one_that_stands_by(live: Live, load: Load) -> None:
    """Its connection stays open, and with it the lock: it must not be held for ever by one that does nothing."""
    with second(live, "dispatcher") as other:
        with stopped([live.stack.pid("dispatcher")]):
            load.send([timed("ledger-io", seconds=0.1) for _ in range(20)])  # it does not get by on what was admitted
            load.ends_well()
            assert "dispatcher: active" in other.log
        again = Load(live)
        again.send([timed("ledger-io", seconds=0.1) for _ in range(20)])
        again.ends_well()
        assert live.stack.pid("dispatcher")
    assert load.losses() == []


@pytest.mark.parametrize("name", ["web", "worker-system", "beat"])
def test_stopping_a_process_that_holds_no_attempt_costs_no_attempt(live: Live, load: Load, name: str) -> None:
    load.under_way()
    with stopped([live.stack.pid(name)]):
        wait_for(lambda: "running" not in load.look().values() and "pending" not in load.look().values())
    load.ends_well()
    assert load.losses() == []


def test_with_redis_stopped_processes_start_and_tasks_complete(live: Live, service: Services) -> None:
    """It takes connections and never answers: nobody may wait for it, nor for its end."""
    with stopped([service.pid("redis")]):
        for name in ("dispatcher", "worker-cpu", "worker-io"):
            live.stack.kill(name)
            live.stack.start_process(name)
        load = Load(live)
        load.send([timed(agent, seconds=0.1, door="a2a") for agent in ("ledger-cpu", "ledger-io") for _ in range(3)])
        load.ends_well(timeout_s=60)
    put_back(live)
