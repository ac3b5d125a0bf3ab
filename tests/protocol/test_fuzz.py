"""Valid requests, broken at random places by a seeded generator: each is answered, and done whole or not at all."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tasks_app.models import Task
from tests.protocol.doors import EXTENSION, TASKS, Doors, content, rows

SEEDS = range(5)
ROUNDS = 40
VALUES: list[Any] = [
    *[None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, 5e-324, 2**31, 2**53 + 1, 2**63, 2**64 - 1, 10**30],
    *[
        "",
        " ",
        "\x00",
        "a\x00",
        "é",
        "\U0001f9e0",
        "\u202e",
        "x" * 300,
        "x" * 5_000,
        "NaN",
        "null",
        "1e999",
        "'; --",
        "%s",
    ],
    *["QQ==", "critical", "ROLE_USER", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00+25:00", "text/plain", EXTENSION],
    *[
        [],
        {},
        [[]],
        [{}],
        {"": ""},
        {"a": {"b": [None]}},
        [0] * 50,
        {"text": "x"},
        {"raw": "QQ=="},
        {"url": "x"},
        {"data": 1},
    ],
]
KEYS = [
    *["text", "raw", "url", "data", "mediaType", "media_type", "filename", "metadata", "parts", "role", "messageId"],
    *["message_id", "contextId", "context_id", "taskId", "referenceTaskIds", "extensions", "priority", "timeout_s"],
    *["run_after", "parameters", "resources", "agent", "id", "method", "params", "configuration", "", "\x00", "é"],
]


def options() -> dict[str, Any]:
    return {
        "priority": "high",
        "timeout_s": 5,
        "start_deadline_s": 60,
        "run_after": "2026-01-31T12:00:00Z",
        "parameters": {"seconds": 1, "steps": 2},
        "resources": {"memory_mb": 100, "gpus": [0, {"model": "x"}]},
    }


def said() -> dict[str, Any]:
    return {
        "messageId": str(uuid4()),
        "role": "ROLE_USER",
        "contextId": "context",
        "parts": [
            {"text": "hello", "mediaType": "text/plain"},
            {"raw": "aGVsbG8=", "mediaType": "image/png", "filename": "a.png", "metadata": {"a": 1}},
            {"data": {"a": [1, None, {"b": "c"}]}},
        ],
        "extensions": [EXTENSION],
    }


def over_rest() -> dict[str, Any]:
    return {"agent": "sleep", "message": said(), "metadata": {"study": [1, "x", None]}, **options()}


def over_jsonrpc() -> dict[str, Any]:
    params = {
        "message": {**said(), "metadata": {EXTENSION: options(), "other": {"a": [1]}}},
        "configuration": {"returnImmediately": True, "historyLength": 3, "acceptedOutputModes": ["text/plain"]},
        "metadata": {"study": "x"},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}


def over_v0_3() -> dict[str, Any]:
    """Of A2A 0.3."""
    parts = [
        {"kind": "text", "text": "hello"},
        {"kind": "file", "file": {"bytes": "aGVsbG8=", "mimeType": "image/png", "name": "a.png"}, "metadata": {"a": 1}},
        {"kind": "data", "data": {"a": [1, None, {"b": "c"}]}},
    ]
    ids = {"messageId": str(uuid4()), "contextId": "context"}
    message = {"kind": "message", "role": "user", **ids, "parts": parts, "metadata": {EXTENSION: options()}}
    configuration = {"blocking": False, "historyLength": 3, "acceptedOutputModes": ["text/plain"]}
    params = {"message": message, "configuration": configuration, "metadata": {"study": "x"}}
    return {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": params}


def over_v0_1() -> dict[str, Any]:
    """Of A2A 0.1."""
    parts = [
        {"type": "text", "text": "hello", "metadata": None},
        {"type": "file", "file": {"bytes": "aGVsbG8=", "mimeType": "image/png", "name": "a.png"}},
        {"type": "data", "data": {"a": [1, None, {"b": "c"}]}},
    ]
    message = {"role": "user", "parts": parts, "metadata": {EXTENSION: options()}}
    more = {"historyLength": 3, "acceptedOutputModes": ["text"], "metadata": {"study": "x"}}
    params = {"id": str(uuid4()), "sessionId": "context", "message": message, **more}
    return {"jsonrpc": "2.0", "id": 1, "method": "tasks/send", "params": params}


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below this JSON."""
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else []
    return [place for key in keys for place in ((data, key), *places(data[key]))]


def broken(data: Any, chance: random.Random) -> bytes:
    """The JSON with one to three changes: a value replaced, left out, repeated elsewhere, or bytes cut and turned."""
    data = copy.deepcopy(data)
    for _ in range(chance.randint(1, 3)):
        container, key = chance.choice(places(data) or [({"": 0}, "")])
        what = chance.random()
        if what < 0.6:
            container[key] = copy.deepcopy(chance.choice(VALUES))
        elif what < 0.75:
            del container[key]
        elif isinstance(container, dict):
            container[chance.choice(KEYS)] = copy.deepcopy(chance.choice([container[key], *VALUES]))
        else:
            container.append(copy.deepcopy(chance.choice(VALUES)))
    text = json.dumps(data).encode()
    if chance.random() < 0.1:
        at = chance.randrange(len(text))
        text = chance.choice([text[:at], text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :], text + text[at:]])
    return text


@pytest.mark.parametrize("seed", SEEDS)
def test_a_broken_request_is_refused_or_made_whole(doors: Doors, settings: Any, seed: int) -> None:
    settings.A2A_BLOCKING_WAIT_S = 0.0  # what is broken may ask to wait, for work that nobody does here
    chance = random.Random(seed)
    accepted = []
    for _ in range(ROUNDS):
        body = broken(over_jsonrpc(), chance)
        answer = doors.send("POST", "/a2a/sleep/", **content(body)).json()
        assert answer.get("error", {}).get("code") != -32603, (body, answer)
        if "result" in answer and "task" in answer["result"]:
            accepted.append(answer["result"]["task"]["id"])
    for _ in range(ROUNDS // 3):
        body = broken(over_rest(), chance)
        reply = doors.submit(body)
        assert reply.status_code in (200, 201, 400, 404, 409, 415), (body, reply.text)
        if reply.status_code == 201:
            accepted.append(reply.json()["id"])
    assert {str(task_id) for task_id in Task.objects.values_list("id", flat=True)} == set(accepted)
    assert rows() == (len(set(accepted)),) * 3
    for task_id in set(accepted):
        assert doors.send("GET", f"{TASKS}{task_id}/").status_code == 200
        assert doors.call("GetTask", {"id": task_id}, agent="sleep")["result"]["id"] == task_id
    assert doors.send("GET", TASKS).status_code == 200


@pytest.mark.parametrize("whole", [over_v0_3, over_v0_1])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_broken_request_of_an_older_version_is_refused_or_made_whole(
    doors: Doors, settings: Any, whole: Callable[[], dict[str, Any]], seed: int
) -> None:
    settings.A2A_BLOCKING_WAIT_S = 0.0
    chance = random.Random(seed)
    accepted = set()
    for _ in range(ROUNDS):
        body = broken(whole(), chance)
        answer = doors.send("POST", "/a2a/sleep/", **content(body, **{"a2a-version": ""})).json()
        assert answer.get("error", {}).get("code") != -32603, (body, answer)
        if "status" in answer.get("result", {}):
            accepted.add(answer["result"]["id"])
    assert rows() == (len(accepted),) * 3
    for task_id in accepted:
        answer = doors.call("tasks/get", {"id": task_id}, agent="sleep", headers={"a2a-version": ""})
        assert answer["result"]["id"] == task_id


def over_protojson() -> dict[str, Any]:
    """Of A2A 0.3, in the JSON of its protobuf."""
    content = [
        {"text": "hello", "metadata": {"a": 1}},
        {"file": {"fileWithBytes": "YUdWc2JHOD0=", "mimeType": "image/png", "name": "a.png"}},
        {"data": {"data": {"a": [1, None, {"b": "c"}]}}},
    ]
    ids = {"messageId": str(uuid4()), "contextId": "context"}
    message = {"role": "ROLE_USER", **ids, "content": content, "metadata": {EXTENSION: options()}}
    configuration = {"blocking": False, "historyLength": 3, "acceptedOutputModes": ["text/plain"]}
    return {"message": message, "configuration": configuration, "metadata": {"study": "x"}}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_broken_body_of_0_3_is_refused_or_made_whole(doors: Doors, settings: Any, seed: int) -> None:
    settings.A2A_BLOCKING_WAIT_S = 0.0
    chance = random.Random(seed)
    accepted = set()
    for _ in range(ROUNDS):
        body = broken(over_protojson(), chance)
        reply = doors.send("POST", "/a2a/sleep/v1/message:send", **content(body, **{"a2a-version": ""}))
        assert reply.status_code in (200, 400, 404), (body, reply.text)
        if reply.status_code == 200:
            accepted.add(reply.json()["task"]["id"])
    assert rows() == (len(accepted),) * 3
    for task_id in accepted:
        assert doors.send("GET", f"/a2a/sleep/v1/tasks/{task_id}").json()["id"] == task_id
