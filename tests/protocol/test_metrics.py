"""``/metrics`` of the web process: what both doors count there, and who may read it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tasks_app.metrics import tally
from tasks_app.models import Client
from tasks_app.models.client import LOCAL_CLIENT
from tests.factory import Factory
from tests.protocol.doors import TASKS, Doors
from tests.scrapes import by_labels, parsed

pytestmark = pytest.mark.django_db(transaction=True)


def created(doors: Doors) -> dict[tuple[str, ...], int]:
    reply = doors.send("GET", "/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return by_labels([parsed(reply.text)], "tasks_created_total", "agent", "priority", "lane")


def test_tasks_of_both_doors_are_counted_and_repeats_are_not(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_tally", None)
    message: dict[str, Any] = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    params = {"message": message, "configuration": {"returnImmediately": True}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
    for _ in range(2):
        assert "result" in doors.send("POST", "/a2a/echo/", json=call, headers={"a2a-version": "1.0"}).json()
        rest = doors.send("POST", TASKS, json={"agent": "sleep-cpu", "priority": "low", "message": message})
        assert rest.status_code in (200, 201)
    assert doors.send("POST", TASKS, json={"agent": "nobody", "message": message}).status_code == 400
    assert created(doors) == {("echo", "normal", "io"): 1, ("sleep-cpu", "low", "cpu"): 1}


def test_a_rerun_is_counted_as_created_and_a_refused_submit_is_not(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Client.objects.get_or_create(name=LOCAL_CLIENT)[0]
    task_id = Factory(local).finished()
    Client.objects.filter(pk=local.pk).update(max_queued=1)
    monkeypatch.setattr(tally, "_tally", None)
    replies = [doors.send("POST", f"{TASKS}{task_id}/rerun/") for _ in range(2)]
    replies.append(doors.send("POST", TASKS, json={"agent": "echo", "message": {"parts": [{"text": "hello"}]}}))
    assert [reply.status_code for reply in replies] == [201, 429, 429]
    assert created(doors) == {("echo", "normal", "io"): 1}


def test_a_task_cancelled_at_either_door_is_counted(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_tally", None)
    body = {"agent": "sleep", "message": {"parts": [{"text": "hello"}]}}
    ids = [doors.send("POST", TASKS, json=body).json()["id"] for _ in range(2)]
    call = {"jsonrpc": "2.0", "id": 1, "method": "CancelTask", "params": {"id": ids[0]}}
    assert "result" in doors.send("POST", "/a2a/sleep/", json=call, headers={"a2a-version": "1.0"}).json()
    assert doors.send("POST", f"{TASKS}{ids[1]}/cancel/").status_code == 200
    seen = parsed(doors.send("GET", "/metrics").text)
    assert by_labels([seen], "tasks_cancelled_total", "agent", "priority", "lane") == {("sleep", "normal", "io"): 2}


def test_the_requests_that_django_answers_are_counted_by_django_prometheus(doors: Doors) -> None:
    name, status = "django_http_responses_total_by_status_total", ("404",)

    def missing() -> int:
        return by_labels([parsed(doors.send("GET", "/metrics").text)], name, "status").get(status, 0)

    before = missing()
    assert doors.send("GET", f"{TASKS}{uuid4()}/").status_code == 404
    assert missing() == before + 1


@pytest.mark.parametrize("peer", ["10.0.0.7", "2001:db8::1"])
def test_another_machine_may_not_read_them(doors: Doors, peer: str) -> None:
    reply = doors.send("GET", "/metrics", peer=peer)
    assert (reply.status_code, "tasks_" in reply.text) == (403, False)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host"])
def test_nobody_reads_them_through_a_proxy_on_this_machine(doors: Doors, header: str) -> None:
    assert doors.send("GET", "/metrics", headers={header: "127.0.0.1"}).status_code == 403
    assert doors.send("GET", "/metrics", peer="::1").status_code == 200
