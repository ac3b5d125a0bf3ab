"""What a client may still change of its tasks over REST: priority and time of what waits, another run of what ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from django.utils import timezone

from tasks_app import agents, engine, wakeups
from tasks_app.engine import CheckpointRecord, Finish, Usage
from tasks_app.models import Client, Outcome, Task
from tasks_app.models.client import LOCAL_CLIENT
from tasks_app.status import TERMINAL, Priority, TaskStatus
from tests.factory import Factory, lost
from tests.protocol.doors import TASKS, Doors, content, each, nothing_left, rest_body

LATER = "2990-01-31T12:00:00Z"
FAILED = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error={"code": "x", "message": "y"})


@pytest.fixture
def mine(transactional_db: None) -> Factory:
    """Tasks of the client that the open mode takes everybody for."""
    return Factory(Client.objects.get_or_create(name=LOCAL_CLIENT)[0])


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the doors ring."""
    heard: list[Any] = []
    monkeypatch.setattr(wakeups.bell, "ring", heard.extend)
    return heard


def patch(doors: Doors, task_id: UUID, body: Any) -> Any:
    return doors.send("PATCH", f"{TASKS}{task_id}/", **content(body))


def rerun(doors: Doors, task_id: UUID) -> Any:
    return doors.send("POST", f"{TASKS}{task_id}/rerun/")


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


# Priority and time ---------------------------------------------------------------------------------------------------


def test_what_is_pending_gets_another_priority_and_another_time(doors: Doors, mine: Factory, rung: list[Any]) -> None:
    task_id = mine.admitted()
    reply = patch(doors, task_id, {"priority": "critical"})
    assert (reply.status_code, reply.json()["priority"]) == (200, "critical")
    assert (wakeups.DISPATCH, "new:0") in rung
    before = Task.objects.get(id=task_id)
    assert (before.admitted_at, before.priority) == (None, Priority.CRITICAL)
    reply = patch(doors, task_id, {"run_after": LATER})
    assert instant(reply.json()["run_after"]) == instant(LATER)
    assert reply.json()["waiting_for"][0]["code"] == "not_due"
    reply = patch(doors, task_id, {"priority": "low", "run_after": "1999-01-01T00:00:00Z"})
    assert (reply.status_code, reply.json()["priority"]) == (200, "low")
    assert timezone.now() - instant(reply.json()["run_after"]) < timedelta(minutes=1)
    assert reply.json()["generation"] == before.generation


@pytest.mark.parametrize("status", [*sorted(TERMINAL), TaskStatus.RUNNING])
def test_what_is_not_pending_cannot_be_changed(doors: Doors, mine: Factory, status: TaskStatus) -> None:
    task_id = mine.in_state(status)
    before = doors.send("GET", f"{TASKS}{task_id}/").json()
    reply = patch(doors, task_id, {"priority": "low"})
    assert reply.status_code == 409
    assert reply.json()["detail"] == f"task {task_id} is {status}; only what is pending can be changed"
    assert doors.send("GET", f"{TASKS}{task_id}/").json() == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *[(value, "body") for value in each([], {}, "x", 5, True, None)],
        *[({"priority": value}, "priority") for value in each("urgent", 1, None, [], "a\x00")],
        *[({"run_after": value}, "run_after") for value in each("soon", "2026-01-01", None, 5, "3000-01-01T00:00:00Z")],
        *[({name: 1, "priority": "low"}, name) for name in each("timeout_s", "agent", "status", "")],
    ],
)
def test_a_change_that_is_none_is_named(doors: Doors, mine: Factory, body: Any, field: str) -> None:
    task_id = mine.pending()
    before = Task.objects.values().get(id=task_id)
    reply = patch(doors, task_id, body)
    assert (reply.status_code, [error["field"] for error in reply.json()["errors"]]) == (400, [field])
    assert Task.objects.values().get(id=task_id) == before


def test_the_rest_of_a_task_cannot_be_replaced(doors: Doors, mine: Factory) -> None:
    assert doors.send("PUT", f"{TASKS}{mine.pending()}/", **content({"priority": "low"})).status_code == 405


# Another run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_what_has_ended_is_run_again_as_a_new_task(
    doors: Doors, mine: Factory, rung: list[Any], status: TaskStatus
) -> None:
    task_id = mine.in_state(status)
    reply = rerun(doors, task_id)
    made = reply.json()
    assert (reply.status_code, made["status"], made["rerun_of"]) == (201, "pending", str(task_id))
    assert reply.headers["location"] == f"{TASKS}{made['id']}/"
    assert made["messages"][0]["parts"] == [{"text": "hello"}]
    assert Task.objects.get(id=task_id).status == status
    assert (wakeups.DISPATCH, f"new:2:io:{mine.owner.pk}:echo") in rung


@pytest.mark.parametrize("status", [TaskStatus.PENDING, TaskStatus.RUNNING])
def test_what_has_not_ended_is_not_run_again(doors: Doors, mine: Factory, status: TaskStatus) -> None:
    task_id = mine.in_state(status)
    with nothing_left():
        reply = rerun(doors, task_id)
    assert reply.status_code == 409
    assert reply.json()["detail"] == f"task {task_id} is {status}; only what has ended can be run again"


def test_a_task_whose_agent_is_gone_is_not_run_again(
    doors: Doors, mine: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = mine.finished()
    monkeypatch.delitem(agents._registry, "echo")
    with nothing_left():
        reply = rerun(doors, task_id)
    assert (reply.status_code, "no agent 'echo'" in reply.json()["detail"]) == (409, True)


# Dead letters --------------------------------------------------------------------------------------------------------


def dead_letters(doors: Doors, query: str = "") -> list[str]:
    reply = doors.send("GET", f"{TASKS}?dead_letters=true{query}")
    assert reply.status_code == 200, reply.text
    return [task["id"] for task in reply.json()["results"]]


def test_dead_letters_are_what_failed_for_good_and_was_not_run_again(doors: Doors, mine: Factory) -> None:
    final = mine.finished(FAILED)
    spent, retried = mine.claimed(max_attempts=1), mine.claimed(max_attempts=2)
    engine.run(engine.lose, [lost(spent.attempt_id), lost(retried.attempt_id)])
    for status in (TaskStatus.PENDING, TaskStatus.COMPLETED, TaskStatus.CANCELLED, TaskStatus.REJECTED):
        mine.in_state(status)
    Factory(Client.objects.create(name="stranger")).finished(FAILED)
    assert dead_letters(doors) == [str(spent.task_id), str(final)]
    assert dead_letters(doors, "&status=completed") == []
    assert dead_letters(doors, "&agent=echo&priority=normal") == [str(spent.task_id), str(final)]
    assert rerun(doors, final).status_code == 201
    assert dead_letters(doors) == [str(spent.task_id)]


def test_dead_letters_are_paged_by_when_they_died_and_none_is_missed(doors: Doors, mine: Factory) -> None:
    claims = [mine.claimed() for _ in range(7)]
    order = [claims[n] for n in (3, 0, 6, 1, 5, 2, 4)]
    for claim in order:
        assert mine.write(claim, finish=FAILED).accepted
    url, seen = f"{TASKS}?dead_letters=true&page_size=3", []
    while url:
        page = doors.send("GET", url).json()
        seen += [task["id"] for task in page["results"]]
        url = page["next"]
    assert seen == [str(claim.task_id) for claim in reversed(order)]


def test_dead_letters_of_one_instant_are_paged_while_others_come_and_go(doors: Doors, mine: Factory) -> None:
    old = [mine.finished(FAILED) for _ in range(7)]
    Task.objects.filter(id__in=old).update(completed_at=timezone.now())
    url, seen = f"{TASKS}?dead_letters=true&page_size=2", []
    while url:
        page = doors.send("GET", url).json()
        seen.append([task["id"] for task in page["results"]])
        mine.finished(FAILED)  # one more before the first page
        assert rerun(doors, UUID(seen[-1][0])).status_code == 201  # and one less on this one
        back, url = page["previous"], page["next"]
        if back:
            before = [task["id"] for task in doors.send("GET", back).json()["results"]]
            assert before[-1:] == seen[-2][1:]  # its first was run again
    assert [task for page in seen for task in page] == [str(task_id) for task_id in reversed(old)]


@pytest.mark.parametrize("value", ["", "false", "1", "True", "%00"])
def test_dead_letters_are_asked_for_by_true_only(doors: Doors, value: str) -> None:
    reply = doors.send("GET", f"{TASKS}?dead_letters={value}")
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, "dead_letters")


def test_an_id_is_no_cursor_of_dead_letters_nor_an_instant_of_others(doors: Doors, mine: Factory) -> None:
    for _ in range(2):
        mine.finished(FAILED)
    queries: list[dict[str, str]] = [{}, {"dead_letters": "true"}]
    for query, other in (queries, queries[::-1]):
        after = doors.send("GET", TASKS, params={**query, "page_size": "1"}).json()["next"]
        cursor = httpx.URL(after).params["cursor"]
        for said, status in ((query, 200), (other, 400)):
            assert doors.send("GET", TASKS, params={**said, "cursor": cursor}).status_code == status


# What a task shows ---------------------------------------------------------------------------------------------------


def test_a_task_shows_what_its_attempts_used_and_keeps_their_tracebacks(doors: Doors, mine: Factory) -> None:
    claim = mine.claimed(start_deadline_s=60.0)
    usage = Usage(peak_rss_bytes=5_000, cpu_s=1.5, disk_bytes=7)
    finish = replace(FAILED, traceback="secret", usage=usage)
    record = CheckpointRecord(name="half", data='{"hidden": 1}')
    assert mine.write(claim, record, finish=finish).accepted
    reply = doors.send("GET", f"{TASKS}{claim.task_id}/")
    task = reply.json()
    attempt = task["attempts"][0]
    assert (attempt["peak_rss_bytes"], attempt["cpu_s"], attempt["disk_bytes"]) == (5_000, 1.5, 7)
    assert attempt["released_at"] is not None
    assert [(made["name"], made["attempt"]) for made in task["checkpoints"]] == [("half", 1)]
    assert set(task["checkpoints"][0]) == {"name", "attempt", "created_at"}
    assert (task["spent"], task["input_expires_at"], task["waiting_for"]) == (1, None, [])
    assert instant(task["start_deadline_at"]) - instant(task["run_after"]) == timedelta(seconds=60)
    assert "secret" not in reply.text
    assert "hidden" not in reply.text


def test_both_doors_tell_why_a_task_waits(doors: Doors) -> None:
    task = doors.submit(rest_body(run_after=LATER)).json()
    told = [{"code": "not_due", "message": "its time has not come: see run_after"}]
    assert task["waiting_for"][:1] == told
    metadata = doors.call("GetTask", {"id": task["id"]})["result"]["metadata"]
    assert metadata["urn:a2a-task-manager:task-options:v1"]["waiting_for"] == task["waiting_for"]
    doors.call("CancelTask", {"id": task["id"]})
    metadata = doors.call("GetTask", {"id": task["id"]})["result"]["metadata"]
    assert "waiting_for" not in metadata["urn:a2a-task-manager:task-options:v1"]


# Another message -----------------------------------------------------------------------------------------------------


def say(doors: Doors, task_id: UUID, body: Any) -> Any:
    return doors.send("POST", f"{TASKS}{task_id}/messages/", **content(body))


def test_a_task_that_waits_for_its_client_goes_on_by_a_message(doors: Doors, mine: Factory, rung: list[Any]) -> None:
    task_id = mine.finished(Finish(status=TaskStatus.INPUT_REQUIRED, outcome=Outcome.INTERRUPTED, wait_s=60))
    body = {"message": {"messageId": "m", "parts": [{"text": "the left one"}]}}
    reply = say(doors, task_id, body)
    assert (reply.status_code, reply.json()["status"]) == (200, "pending")
    assert reply.json()["messages"][-1]["parts"] == [{"text": "the left one"}]
    assert (wakeups.TASKS, str(task_id)) in rung
    assert say(doors, task_id, body).status_code == 200
    assert Task.objects.get(id=task_id).inbox_seq == 1


def test_a_message_that_does_not_fit_is_refused(doors: Doors, mine: Factory) -> None:
    task_id, ended = mine.pending(), [mine.in_state(status) for status in TERMINAL]
    with nothing_left():
        for over in ended:
            assert say(doors, over, {"message": {"parts": [{"text": "x"}]}}).status_code == 409
        for body, field in (
            ([], "body"),
            ({}, "message"),
            ({"message": {"parts": []}}, "message.parts"),
            ({"message": {"parts": [{"text": "x"}], "taskId": str(uuid4())}}, "message.taskId"),
            ({"message": {"parts": [{"text": "x"}], "contextId": "other"}}, "message.contextId"),
        ):
            reply = say(doors, task_id, body)
            assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, field)
