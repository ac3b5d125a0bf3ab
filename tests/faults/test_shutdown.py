"""Warm and cold shutdown of a worker, in both lanes: its tasks run elsewhere at once, and it is gone in time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from celery import Celery

from tests.faults.processes import put_back
from tests.live import Live, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

LANES = ["cpu", "io"]
#: For a busy machine: the grace, if there is one, and what is left of the lease.
HAND_BACK_S = 4.0
#: For a busy machine too: the grace, the time for handlers that must be killed, Celery's own shutdown.
EXIT_S = 12.0
#: What each lane's workers run when they are told to stop.
RUNNING = {
    "cpu": ["willing-once", "stubborn-once"],
    "io": ["willing-once-io", "stubborn-once-io", "blocks-once-io"],
}

Worker = Popen[bytes]
Told = Callable[[Worker], object]


@contextmanager
def alone(live: Live, lane: str, **env: str) -> Iterator[Worker]:
    """A worker of the test's own: the only one of its lane, until :func:`another` is called."""
    live.stack.stop_process(f"worker-{lane}")
    try:
        with live.worker(lane, A2A_CPU_SLOTS="2", **env) as worker:
            yield worker
    finally:
        put_back(live)


def another(live: Live, lane: str) -> None:
    """Starts the stack's own worker of the lane again."""
    live.is_online(live.stack.start_process(f"worker-{lane}"), lane)


def handed_over_after_s(live: Live, task_id: str, told_at: Any) -> float:
    """From the signal to the claim of the next attempt, by the database's clock."""
    query = "SELECT extract(epoch FROM claimed_at - %s) FROM tasks_app_taskattempt WHERE task_id = %s AND number = 2"
    return float(wait_for(lambda: live.sql(query, told_at, task_id), what="the task runs again")[0][0])


def is_well_recorded(live: Live, task_id: str, outcomes: list[str]) -> None:
    """Attempts 1..n with these ends, of which only the last was spent; no slot taken; generations 1..n."""
    attempts = live.sql(
        "SELECT number, outcome, error ->> 'code', released_at IS NOT NULL FROM tasks_app_taskattempt"
        " WHERE task_id = %s ORDER BY number",
        task_id,
    )
    code = {"handed_back": "worker_shutdown"}
    assert attempts == [(n, outcome, code.get(outcome), True) for n, outcome in enumerate(outcomes, 1)]
    events = live.sql("SELECT generation FROM tasks_app_taskevent WHERE task_id = %s ORDER BY generation", task_id)
    newest, spent = live.sql("SELECT generation, spent FROM tasks_app_task WHERE id = %s", task_id)[0]
    assert ([row[0] for row in events], spent) == (list(range(1, newest + 1)), 1)


def moves_on(live: Live, lane: str, worker: Worker, tell: Told, agents: Sequence[str] = ()) -> None:
    """Tells the worker to stop while it runs a task of each kind: another completes them, and it is gone."""
    ids = [live.submit(agent) for agent in agents or RUNNING[lane]]
    for task_id in ids:
        live.running(task_id)
    another(live, lane)
    told_at = live.sql("SELECT now()")[0][0]
    tell(worker)
    for task_id in ids:
        assert handed_over_after_s(live, task_id, told_at) < HAND_BACK_S
    worker.wait(EXIT_S)
    for task_id in ids:
        assert live.ended(task_id)["status"] == "completed"
        is_well_recorded(live, task_id, ["handed_back", "completed"])


@pytest.mark.parametrize(("number", "grace_s"), [(signal.SIGTERM, "1"), (signal.SIGQUIT, "60")])
@pytest.mark.parametrize("lane", LANES)
def test_another_worker_runs_the_tasks_at_once_though_handlers_ignore_everything(
    live: Live, lane: str, number: signal.Signals, grace_s: str
) -> None:
    with alone(live, lane, A2A_SHUTDOWN_GRACE_S=grace_s) as worker:
        moves_on(live, lane, worker, lambda worker: worker.send_signal(number))


def test_a_second_signal_ends_the_grace(live: Live) -> None:
    def tell(worker: Worker) -> None:
        worker.send_signal(signal.SIGTERM)
        is_draining(live, worker)
        worker.send_signal(signal.SIGTERM)

    with alone(live, "cpu", A2A_SHUTDOWN_GRACE_S="60") as worker:
        moves_on(live, "cpu", worker, tell)


def test_the_button_in_flower_shuts_down_in_the_same_way(live: Live, services: dict[str, str]) -> None:
    def tell(worker: Worker) -> None:
        name = live.sql("SELECT name FROM tasks_app_worker WHERE pid = %s AND state = 'online'", worker.pid)[0][0]
        celery = Celery(broker=services["A2A_BROKER_URL"], set_as_current=False)
        celery.control.shutdown(destination=[name])

    with alone(live, "io") as worker:
        moves_on(live, "io", worker, tell, ["willing-once-io"])


def is_draining(live: Live, worker: Worker) -> None:
    query = "SELECT 1 FROM tasks_app_worker WHERE pid = %s AND state = 'draining'"
    wait_for(lambda: live.sql(query, worker.pid), what="it says that it shuts down")


@pytest.mark.parametrize("lane", LANES)
def test_a_worker_started_later_runs_what_was_running_and_what_was_reserved(
    live: Live, lane: str, tmp_path: Path
) -> None:
    with alone(live, lane, A2A_IO_SLOTS="2", A2A_SHUTDOWN_GRACE_S="0") as worker:
        ids = [live.submit(f"waits-for-file-{lane}", str(tmp_path / "file")) for _ in range(6)]
        wait_for(lambda: live.statuses(ids)["running"] == 2, what="both slots work")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(EXIT_S) == 0
        assert live.statuses(ids) == {"pending": 6}
        (tmp_path / "file").touch()
    again = [task_id for task_id in ids if live.ended(task_id)["attempt"] > 1]
    assert len(again) == 2
    for task_id in ids:
        is_well_recorded(live, task_id, ["handed_back", "completed"] if task_id in again else ["completed"])


@pytest.mark.parametrize("lane", LANES)
def test_what_ends_within_the_grace_ends_normally_and_then_the_worker_goes(
    live: Live, lane: str, tmp_path: Path
) -> None:
    with alone(live, lane, A2A_SHUTDOWN_GRACE_S="60") as worker:
        task_id = live.submit(f"waits-for-file-{lane}", str(tmp_path / "file"))
        live.running(task_id)
        worker.send_signal(signal.SIGTERM)
        is_draining(live, worker)
        (tmp_path / "file").touch()
        assert live.ended(task_id)["status"] == "completed"
        assert worker.wait(EXIT_S) == 0
    is_well_recorded(live, task_id, ["completed"])


def test_a_child_that_dies_while_its_worker_shuts_down_costs_nothing(live: Live) -> None:
    """As when a supervisor sends its signal to every process of a group. It is not waited for until the grace ends."""
    with alone(live, "cpu", A2A_SHUTDOWN_GRACE_S="60") as worker:
        dies, goes_on = [live.submit("willing-once") for _ in range(2)]
        pid = live.running(dies)["attempts"][0]["pid"]
        live.running(goes_on)
        worker.send_signal(signal.SIGTERM)
        is_draining(live, worker)
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: live.task(dies)["status"] == "pending", timeout_s=10, what="it is handed back")
        assert live.task(goes_on)["status"] == "running"
        worker.send_signal(signal.SIGTERM)
        worker.wait(EXIT_S)
    for task_id in (dies, goes_on):
        assert live.ended(task_id)["status"] == "completed"
        is_well_recorded(live, task_id, ["handed_back", "completed"])
