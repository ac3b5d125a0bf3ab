"""Cancel by the operator's doors: Flower's HTTP API, Celery's remote control; and with no worker there to hear it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from celery import Celery

from stack.ports import find_free
from tests.faults.processes import put_back
from tests.live import Live, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def flower(live: Live) -> Iterator[httpx.Client]:
    """A Flower with a login, as an operator runs it; the client has not logged in."""
    port = find_free()
    command = "celery --skip-checks -A a2a_project flower --address=127.0.0.1"
    with (
        live.process(f"{command} --port={port} --basic-auth=user:secret"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        wait_for(lambda: answers(client), what="Flower answers")
        yield client


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthcheck").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def control(services: dict[str, str]) -> Any:
    """Celery's remote control, as ``celery -A a2a_project control`` has it."""
    return Celery(broker=services["A2A_BROKER_URL"], set_as_current=False).control


def job_of(live: Live, task_id: str) -> str:
    """The Celery id of the job that carries the task now."""
    attempts = live.sql("SELECT epoch - 1 FROM tasks_app_taskattempt WHERE task_id = %s AND ended_at IS NULL", task_id)
    return f"{task_id}:{attempts[0][0]}"


def started(live: Live, agent: str) -> str:
    parameters = {} if agent == "stubborn" else {"seconds": 60, "steps": 100}
    task_id = live.submit(agent, parameters=parameters)
    live.running(task_id)
    return task_id


def is_cancelled_and_stopped(live: Live, task_id: str) -> None:
    task = live.ended(task_id, timeout_s=10)
    assert (task["status"], task["attempt"]) == ("cancelled", 1)
    released = "SELECT 1 FROM tasks_app_taskattempt WHERE task_id = %s AND released_at IS NOT NULL"
    wait_for(lambda: live.sql(released, task_id), timeout_s=20, what="its handler has stopped")
    outcome = "SELECT outcome, error FROM tasks_app_taskattempt WHERE task_id = %s"
    assert live.sql(outcome, task_id) == [("cancelled", {"code": "cancelled", "message": "cancelled by revoke"})]


def replies(
    control: Any, job_ids: str | list[str], command: str = "revoke", workers: int = 3, **arguments: Any
) -> list[str]:
    """What the workers say: the key and the text of each one's reply."""
    answers = control.broadcast(command, {"task_id": job_ids, **arguments}, reply=True, timeout=5, limit=workers)
    return sorted(f"{key}: {text}" for answer in answers for reply in answer.values() for key, text in reply.items())


@pytest.mark.parametrize(
    ("agent", "terminate"),
    [("sleep-cpu", "true"), ("sleep-cpu", "false"), ("sleep", "true"), ("sleep", "false"), ("stubborn", "true")],
)
def test_revoking_in_flower_cancels_the_task_and_stops_its_handler(
    live: Live, flower: httpx.Client, agent: str, terminate: str
) -> None:
    task_id = started(live, agent)
    url = f"/api/task/revoke/{job_of(live, task_id)}"
    reply = flower.post(url, params={"terminate": terminate}, auth=("user", "secret"))
    assert reply.status_code == 200, reply.text
    is_cancelled_and_stopped(live, task_id)


@pytest.mark.parametrize("auth", [None, ("user", "wrong")])
def test_flower_cancels_nothing_for_who_has_no_login(live: Live, flower: httpx.Client, auth: Any) -> None:
    task_id = started(live, "sleep")
    reply = flower.post(f"/api/task/revoke/{job_of(live, task_id)}", params={"terminate": "true"}, auth=auth)
    assert reply.status_code == 401
    assert live.task(task_id)["status"] == "running"
    assert live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200


@pytest.mark.parametrize("command", ["revoke", "terminate"])
@pytest.mark.parametrize("agent", ["sleep-cpu", "sleep"])
def test_remote_control_cancels_the_task_once_though_every_worker_hears_it(
    live: Live, control: Any, agent: str, command: str
) -> None:
    task_id = started(live, agent)
    job_id = job_of(live, task_id)
    said = replies(control, job_id, command, signal="SIGKILL")
    assert said.count(f"ok: cancelled: {job_id}") == 1
    assert said.count(f"ok: had ended, or is unknown: {job_id}") == 2
    is_cancelled_and_stopped(live, task_id)
    events = "SELECT count(*) FROM tasks_app_taskevent WHERE task_id = %s AND status = 'cancelled'"
    assert live.sql(events, task_id) == [(1,)]


def test_a_job_that_has_not_started_is_cancelled_too(live: Live, control: Any) -> None:
    live.stack.stop_process("worker-io")
    task_id = live.submit("echo")
    said = replies(control, f"{task_id}:0", workers=2)
    assert f"ok: cancelled: {task_id}:0" in said
    put_back(live)
    task = live.task(task_id)
    assert (task["status"], task["attempt"]) == ("cancelled", 0)


def test_several_jobs_at_once_and_what_is_none_of_ours_get_a_clear_reply(live: Live, control: Any) -> None:
    done = live.submit("echo")
    assert live.ended(done)["status"] == "completed"
    unknown = f"{uuid4()}:7"
    foreign = str(uuid4())
    for job_id in (f"{done}:0", unknown):
        assert set(replies(control, job_id, terminate=True)) == {f"ok: had ended, or is unknown: {job_id}"}
    assert set(replies(control, foreign, terminate=True)) == {"ok: terminate: tasks unknown"}
    assert all(said.startswith("ok: tasks") for said in replies(control, ["garbage", ":", "1:2", "\x00"]))
    running = started(live, "sleep")
    said = replies(control, [f"{done}:0", job_of(live, running), foreign])
    assert any(f"cancelled: {running}:0; had ended, or is unknown: {done}:0; tasks" in text for text in said)
    assert live.task(done)["status"] == "completed"
    assert live.ended(live.submit("echo"))["status"] == "completed"


def test_a_cancel_with_all_workers_down_holds_when_they_are_back(live: Live) -> None:
    names = ["worker-cpu", "worker-io", "worker-system"]
    running = started(live, "sleep-cpu")
    for name in names:
        live.stack.kill(name)
    waiting = [live.submit(agent) for agent in ("sleep-cpu", "sleep")]
    for task_id in [running, *waiting]:
        reply = live.http.post(f"/api/v1/tasks/{task_id}/cancel/")
        assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    put_back(live)
    for agent in ("sleep-cpu", "sleep"):
        assert live.ended(live.submit(agent, parameters={"seconds": 0.1}))["status"] == "completed"
    assert [live.task(task_id)["attempt"] for task_id in [running, *waiting]] == [1, 0, 0]
    assert {live.task(task_id)["status"] for task_id in [running, *waiting]} == {"cancelled"}
    released = "SELECT 1 FROM tasks_app_taskattempt WHERE task_id = %s AND released_at IS NOT NULL"
    wait_for(lambda: live.sql(released, running), what="the slot of the killed worker's attempt is free")
