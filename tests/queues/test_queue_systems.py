"""Every queue system that we support, under the same tests: what it loses or repeats is only a hint (DESIGN D1)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks_app.dispatch.queues import queue_name
from tasks_app.status import Lane, Priority
from tests.live import wait_for
from tests.queues.conftest import System
from tests.queues.messages import OTHER_LANE, RAW, hint, old_hint, refused

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]

#: What is in this process is lost only with it, and no other sees it.
between_processes = pytest.mark.parametrize("system", ["rabbitmq", "redis", "sqs"], indirect=True, scope="module")
#: The protocols of the others say themselves what a message is.
of_any_bytes = pytest.mark.parametrize("system", ["redis", "sqs"], indirect=True, scope="module")
ROOT = Path(__file__).resolve().parents[2]
NORMAL = queue_name(Lane.IO, Priority.NORMAL)


def attempts(system: System, task_id: str) -> list[str]:
    return [attempt["outcome"] for attempt in system.live.task(task_id)["attempts"]]


def completes(system: System, task_id: str) -> dict[str, Any]:
    task = system.live.ended(task_id)
    assert task["status"] == "completed", task
    return task


@pytest.mark.parametrize(("agent", "parameters"), [("echo", {}), ("sleep-cpu", {"seconds": 0})])
def test_a_task_of_each_lane_runs(system: System, agent: str, parameters: dict[str, Any]) -> None:
    task = completes(system, system.live.submit(agent, parameters=parameters))
    assert len(task["artifacts"]) == 1
    assert attempts(system, task["id"]) == ["completed"]


@between_processes
def test_an_operator_can_validate_its_queues(system: System) -> None:
    env = {**os.environ, **system.broker.env}
    command = [sys.executable, "manage.py", "a2a", "--validate-queues"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("queues: ok (")


def test_a_critical_task_that_comes_last_starts_before_the_low_ones_that_wait(system: System) -> None:
    long, short = {"seconds": 1.5, "steps": 1}, {"seconds": 0.1, "steps": 1}
    for _ in range(system.cpu_slots):
        system.live.running(system.live.submit("sleep-cpu", parameters=long))
    low = [system.live.submit("sleep-cpu", priority="low", parameters=short) for _ in range(6)]
    critical = system.live.submit("sleep-cpu", priority="critical", parameters=short)
    for task_id in [*low, critical]:
        completes(system, task_id)
    by_start = "SELECT id FROM tasks_app_task WHERE id = ANY(%s::uuid[]) ORDER BY started_at"
    order = [str(row[0]) for row in system.live.sql(by_start, [*low, critical])]
    # What the worker had in hand when the critical one came goes first: at most as many as it has slots, and one more.
    assert order.index(critical) <= system.cpu_slots + 1


def test_a_task_is_cancelled_before_it_starts(system: System) -> None:
    long = {"seconds": 60, "steps": 100}
    busy = [system.live.submit("sleep-cpu", parameters=long) for _ in range(system.cpu_slots)]
    for task_id in busy:
        system.live.running(task_id)
    waiting = system.live.submit("sleep-cpu", priority="low", parameters={"seconds": 0.1})
    for task_id in (waiting, *busy):
        assert system.live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200
    # The lane is free again, and whatever was in the broker for the cancelled task started nothing.
    completes(system, system.live.submit("sleep-cpu", priority="low", parameters={"seconds": 0}))
    task = system.live.task(waiting)
    assert (task["status"], task["attempts"]) == ("cancelled", [])


@pytest.mark.parametrize("agent", ["sleep", "sleep-cpu"])
def test_a_task_is_cancelled_while_it_runs_and_its_slot_is_free_again(system: System, agent: str) -> None:
    task_id = system.live.submit(agent, parameters={"seconds": 60, "steps": 100})
    system.live.running(task_id)
    assert system.live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200
    assert system.live.ended(task_id)["status"] == "cancelled"
    completes(system, system.live.submit(agent, parameters={"seconds": 0}))


@between_processes
def test_what_the_broker_lost_is_published_again_and_runs(system: System) -> None:
    worker = system.live.stack.pid("worker-io")
    os.kill(worker, signal.SIGSTOP)  # so that it takes no more than it has asked for
    try:
        # More than its four slots and what it may be given ahead.
        ids = [system.live.submit("echo") for _ in range(8)]
        wait_for(lambda: system.broker.purge(NORMAL), what="hints waited in the broker, and are thrown away")
    finally:
        os.kill(worker, signal.SIGCONT)
    for task_id in ids:
        completes(system, task_id)


def test_a_hint_that_comes_many_times_starts_its_task_once(system: System) -> None:
    task_id = system.live.submit("sleep", parameters={"seconds": 0.5, "steps": 2})
    system.broker.publish(NORMAL, *[hint(task_id, 0) for _ in range(20)])
    completes(system, task_id)
    completes(system, system.live.submit("echo"))
    assert attempts(system, task_id) == ["completed"]


def test_a_hint_in_the_older_protocol_is_as_good(system: System) -> None:
    """It is received, and starts nothing: the task has ended."""
    task_id, told = system.live.submit("echo"), len(system.log())
    completes(system, task_id)
    system.broker.publish(NORMAL, old_hint(task_id, 0))
    completes(system, system.live.submit("echo"))
    assert attempts(system, task_id) == ["completed"]
    assert not {"refused", "Traceback"} & set(system.log()[told:].split())


def test_hints_for_a_task_that_is_gone_ended_or_in_another_epoch_start_nothing(system: System) -> None:
    ended = system.live.submit("echo")
    completes(system, ended)
    pending = system.live.submit("echo", run_after="2999-01-01T00:00:00Z")
    hints = [hint(str(uuid4()), 0), *[hint(task_id, epoch) for task_id in (ended, pending) for epoch in (0, 1, 7)]]
    system.broker.publish(NORMAL, *hints)
    for _ in range(4):
        completes(system, system.live.submit("echo"))
    assert attempts(system, ended) == ["completed"]
    assert (system.live.task(pending)["status"], attempts(system, pending)) == ("pending", [])
    assert "Traceback" not in system.log()


def test_a_worker_goes_on_after_messages_that_nobody_can_run_and_says_what_they_were(system: System) -> None:
    workers, dead, told = system.workers(), system.broker.dead_letters(), len(system.log())
    # A worker of both lanes has a job for this one.
    wrong = [(reason, message) for reason, message in refused() if workers or reason != OTHER_LANE]
    system.broker.publish(NORMAL, *[message for _, message in wrong])
    completes(system, system.live.submit("echo"))
    log = wait_for(lambda: _said(system, told, len(wrong)), timeout_s=20, what="every message is refused")
    assert [reason for reason, _ in wrong if reason not in log] == []
    assert "Traceback" not in log
    assert system.workers() == workers
    if dead is not None:
        wait_for(lambda: system.broker.dead_letters() == dead + len(wrong), what="they are kept as dead letters")


def _said(system: System, told: int, count: int) -> str:
    log = system.log()[told:]
    return log if log.count("refused a message in ") >= count else ""


@of_any_bytes
def test_a_worker_goes_on_after_what_is_no_message_at_all(system: System) -> None:
    workers, told = system.workers(), len(system.log())
    put = system.broker.put_raw(NORMAL, list(RAW))
    completes(system, system.live.submit("echo"))

    def all_said() -> str:
        log = system.log()[told:]
        return log if log.count("refused a message") + log.count("dropped what is no message") >= len(put) else ""

    log = wait_for(all_said, timeout_s=20, what="everything is refused")
    assert [RAW[text] for text in put if RAW[text] not in log] == []
    assert system.workers() == workers


@between_processes
def test_the_tasks_of_workers_that_are_killed_run_again_on_others(system: System) -> None:
    names, agents = ["worker-io", "worker-cpu"], ["sleep", "sleep-cpu"]
    running = [system.live.submit(agent, parameters={"seconds": 1, "steps": 10}) for agent in agents]
    for task_id in running:
        system.live.running(task_id)
    for name in names:
        system.live.stack.kill(name)
    waiting = [system.live.submit(agent, parameters={"seconds": 0}) for agent in agents]
    for name in names:
        system.live.stack.start_process(name)
    for task_id in [*running, *waiting]:
        completes(system, task_id)
    assert [attempts(system, task_id) for task_id in running] == [["lease_expired", "completed"]] * 2


@between_processes
def test_a_broker_that_dies_and_comes_back_loses_no_task(system: System) -> None:
    workers = system.workers()
    system.live.running(system.live.submit("sleep-cpu", parameters={"seconds": 1, "steps": 1}))
    before = [system.live.submit("sleep-cpu", parameters={"seconds": 0}) for _ in range(3)]
    system.broker.kill()
    meanwhile = [system.live.submit(agent, parameters={"seconds": 0}) for agent in ("sleep", "sleep-cpu")]
    wait_for(lambda: "the broker is away" in system.live.stack.log("dispatcher"), what="the dispatcher notices")
    system.broker.start_again()
    for task_id in [*before, *meanwhile]:
        completes(system, task_id)
    assert system.workers() == workers
