"""The same message again is the same task, at whichever door (A2A 1.0, section 3.3.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks_app import agents
from tasks_app.policies import Resources
from tests.protocol.doors import EXTENSION, TASKS, Doors, content, message, named_fields, nothing_left, rest_body, rows

IMMEDIATELY = {"returnImmediately": True}


def sent(**changes: Any) -> dict[str, Any]:
    """The params of a SendMessage under one message id."""
    return {"message": message(messageId="m"), "configuration": IMMEDIATELY, **changes}


def test_over_rest_a_repeat_gets_200_and_the_same_task(doors: Doors) -> None:
    body = rest_body(message=message(messageId="m"), priority="high", metadata={"a": 1})
    first, again = doors.submit(body), doors.submit(body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"] == f"{TASKS}{first.json()['id']}/"
    assert rows() == (1, 1, 1)


def test_over_jsonrpc_a_repeat_gets_the_same_task(doors: Doors) -> None:
    first, again = (doors.call("SendMessage", sent())["result"]["task"] for _ in range(2))
    assert first["id"] == again["id"]
    assert first["contextId"] == again["contextId"]
    assert rows() == (1, 1, 1)


def test_the_two_doors_know_each_others_messages(doors: Doors) -> None:
    made = doors.submit(rest_body(message=message(messageId="m"))).json()
    assert doors.call("SendMessage", sent())["result"]["task"]["id"] == made["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"message": message(messageId="m", parts=[{"text": "other"}])},
        {"message": message(messageId="m", metadata={"other": 1})},
        {"message": message(messageId="m", contextId="other")},
        {"priority": "low"},
        {"timeout_s": 7},
        {"start_deadline_s": 7},
        {"run_after": "2026-01-31T12:00:00Z"},
        {"resources": {"cores": 1}},
        {"metadata": {"other": 1}},
    ],
)
def test_another_request_under_a_used_message_id_is_refused_by_its_name(doors: Doors, change: dict[str, Any]) -> None:
    assert doors.submit(rest_body(message=message(messageId="m"))).status_code == 201
    with nothing_left():
        reply = doors.submit(rest_body(**{"message": message(messageId="m"), **change}))
    assert (reply.status_code, [error["field"] for error in reply.json()["errors"]]) == (400, ["message.messageId"])


@pytest.mark.parametrize("agent", ["echo", "sleep"])
def test_a_repeat_stays_one_when_its_agents_declaration_changes(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    asked = {"resources": {"cores": 2}, "timeout_s": 9} if agent == "sleep" else {}
    body = rest_body(agent=agent, message=message(messageId="m"), **asked)
    made = doors.submit(body).json()
    needs = Resources(memory_mb=64, cores=1)
    spec = replace(agents.get(agent), timeout_s=77.0, start_deadline_s=5.0, max_attempts=9, resources=needs)
    monkeypatch.setitem(agents._registry, agent, spec)
    again = doors.submit(body)
    assert (again.status_code, again.json()["id"]) == (200, made["id"])
    default_named = doors.submit({**body, "timeout_s": made["timeout_s"]})
    assert default_named.status_code == (200 if asked else 400)


def test_over_jsonrpc_a_conflict_names_the_message_id(doors: Doors) -> None:
    assert "result" in doors.call("SendMessage", sent())
    other = sent(message=message(messageId="m", metadata={EXTENSION: {"priority": "low"}}))
    for method in ("SendMessage", "SendStreamingMessage"):
        with nothing_left():
            answer = doors.call(method, other)
        assert (answer["error"]["code"], "message.messageId" in named_fields(answer)) == (-32602, True)


def test_the_same_instant_in_another_time_zone_is_the_same_request(doors: Doors) -> None:
    instants = ("2030-01-31T12:00:00Z", "2030-01-31T13:00:00+01:00", "2030-01-31T12:00:00.000000+00:00")
    bodies = [rest_body(message=message(messageId="m"), run_after=instant) for instant in instants]
    assert [doors.submit(body).status_code for body in bodies] == [201, 200, 200]


def test_the_order_of_keys_makes_no_other_request(doors: Doors) -> None:
    one = rest_body(message=message(messageId="m", metadata={"a": 1, "b": 2}), metadata={"c": 1, "d": 2})
    two = rest_body(message=message(messageId="m", metadata={"b": 2, "a": 1}), metadata={"d": 2, "c": 1})
    assert [doors.submit(body).status_code for body in (one, two)] == [201, 200]


def test_two_agents_may_be_sent_the_same_message(doors: Doors) -> None:
    ids = {
        doors.submit(rest_body(agent=agent, message=message(messageId="m"))).json()["id"] for agent in ("echo", "sleep")
    }
    assert len(ids) == 2


def test_a_message_without_an_id_over_rest_is_a_new_one_each_time(doors: Doors) -> None:
    body = rest_body(message={"parts": [{"text": "x"}]})
    assert [doors.submit(body).status_code for _ in range(2)] == [201, 201]
    named = rest_body(message={"message_id": "m", "parts": [{"text": "x"}]})
    assert [doors.submit(named).status_code for _ in range(2)] == [201, 200]


def test_twenty_at_once_make_one_task(doors: Doors) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": sent()}
    answers = [reply.json() for reply in doors.together([("POST", "/a2a/echo/", content(call))] * 20)]
    assert len({answer["result"]["task"]["id"] for answer in answers}) == 1
    assert rows() == (1, 1, 1)


def test_of_twenty_different_requests_at_once_one_has_the_message_id(doors: Doors) -> None:
    calls = [{"jsonrpc": "2.0", "id": n, "method": "SendMessage", "params": sent(metadata={"n": n})} for n in range(20)]
    answers = [reply.json() for reply in doors.together([("POST", "/a2a/echo/", content(call)) for call in calls])]
    assert len([answer for answer in answers if "result" in answer]) == 1
    assert {answer["error"]["code"] for answer in answers if "error" in answer} == {-32602}
    assert rows() == (1, 1, 1)


def test_twenty_at_once_through_both_doors_make_one_task(doors: Doors) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": sent()}
    body = rest_body(message=message(messageId="m"))
    replies = doors.together([("POST", "/a2a/echo/", content(call)), ("POST", TASKS, content(body))] * 10)
    ids = {
        reply.json()["result"]["task"]["id"] if index % 2 == 0 else reply.json()["id"]
        for index, reply in enumerate(replies)
    }
    assert len(ids) == 1
    assert sorted(reply.status_code for reply in replies[1::2])[:9] == [200] * 9
    assert rows() == (1, 1, 1)
