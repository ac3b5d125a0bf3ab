"""JSON-RPC calls that are none, reads and cancels of what is not there, and bodies over the limit."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from a2a_project.limits import BoundedBody
from tasks_app.models import Client, Task
from tasks_app.models.client import LOCAL_CLIENT
from tasks_app.status import TERMINAL, TaskStatus
from tests.factory import Factory
from tests.protocol.doors import TASKS, Doors, content, each, message, named_fields, nested, nothing_left, rest_body

pytestmark = pytest.mark.django_db
UNKNOWN = ["0199b3b4-0000-7000-8000-000000000000", "garbage", "0", "a\x00b", "x" * 5_000, "%2e%2e", "²"]


def call(**changes: Any) -> dict[str, Any]:
    whole = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}, **changes}
    return {name: value for name, value in whole.items() if value is not ...}


# JSON-RPC ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        *[(call(jsonrpc=value), -32600) for value in each(..., None, "1.0", "2", 2.0, 2, [])],
        *[(call(method=value), -32600) for value in each(..., None, 5, [], {}, True)],
        *[
            (call(method=value), -32601)
            for value in each("", "message/send", "sendMessage", "listTasks", "__init__", "a\x00")
        ],
        *[(call(id=value), -32600) for value in each([], {}, True, 1.5, 2**70, nested(20))],
        *[(call(params=value), -32602) for value in each([], "x", 5, True, [{"id": "x"}])],
        *[
            (call(params=value), -32602)
            for value in each(..., None, {}, {"id": ""}, {"id": None}, {"id": 5}, {"id": {}})
        ],
        *[
            (call(params={"id": "x", "historyLength": value}), -32602)
            for value in each("x", 1.5, True, [], 2**31, -(2**31) - 1)
        ],
        (call(params={"id": "x", "historyLength": 0}), -32001),
        (call(method="CancelTask", params={"id": "x", "metadata": 5}), -32602),
        ([call(), call()], -32600),
        ([], -32600),
    ],
)
def test_a_call_that_is_none_gets_the_errors_of_json_rpc(shut_doors: Doors, body: Any, code: int) -> None:
    with nothing_left():
        assert shut_doors.post(body)["error"]["code"] == code


@pytest.mark.parametrize("call_id", ["text", "", 0, -5, 2**53, None])
def test_the_answer_repeats_the_id_of_its_call(shut_doors: Doors, call_id: Any) -> None:
    assert shut_doors.post(call(id=call_id))["id"] == call_id
    assert shut_doors.post(call(id=call_id, method="Nothing"))["id"] == call_id


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        *[(value, "configuration") for value in each([], "x", "", 0, 5, True, False)],
        *[({"historyLength": value}, "configuration.historyLength") for value in each("x", 1.5, True, {}, 2**31)],
        *[({"returnImmediately": value}, "configuration.returnImmediately") for value in each("yes", 1, [], {})],
        *[({"acceptedOutputModes": value}, "configuration.acceptedOutputModes") for value in each("text/plain", 5, {})],
        ({"acceptedOutputModes": ["x", 5]}, "configuration.acceptedOutputModes[1]"),
        ({"historyLength": -1}, "configuration.historyLength"),
    ],
)
def test_a_configuration_of_wrong_types_is_named(shut_doors: Doors, configuration: Any, field: str) -> None:
    with nothing_left():
        answer = shut_doors.call("SendMessage", {"message": message(), "configuration": configuration})
    assert answer["error"]["code"] == -32602
    assert field in named_fields(answer)


@pytest.mark.parametrize("version", ["0.3", "1.9", "2.0", "1", "1.", ".", "v1.0", "one", "1,0", "1.0,0.3", "\xe9"])
def test_another_version_of_the_protocol_is_not_supported(shut_doors: Doors, version: str) -> None:
    """A2A 1.0, section 3.6."""
    with nothing_left():
        headers: dict[str, Any] = {"a2a-version": version.encode("latin-1")}
        reply = shut_doors.send("POST", "/a2a/echo/", **content(call(method="SendMessage"), **headers))
        assert reply.json()["error"]["code"] == -32009
        query = {"params": {"A2A-Version": version}, **content(call(), **{"a2a-version": ""})}
        reply = shut_doors.send("POST", "/a2a/echo/", **query)
        assert reply.json()["error"]["code"] == -32009


def test_a_request_that_says_no_version_is_of_0_3_and_has_no_methods_of_1_0(shut_doors: Doors) -> None:
    """A2A 1.0, section 3.6.2."""
    for headers in ({"a2a-version": ""}, {"a2a-version": "0.3"}, {"a2a-version": "0.3.1"}):
        answer = shut_doors.post(call(), headers=headers)
        assert answer["error"]["code"] == -32009
        assert "A2A-Version" in answer["error"]["message"]


@pytest.mark.parametrize("version", ["1.0", "1.0.1", " 1.0 "])
def test_a_patch_of_the_version_is_ignored(shut_doors: Doors, version: str) -> None:
    assert shut_doors.post(call(), headers={"a2a-version": version})["error"]["code"] == -32001


# Reads and cancels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", UNKNOWN)
def test_a_task_that_is_not_there_is_not_found_at_any_door(shut_doors: Doors, task_id: str) -> None:
    quoted = quote(task_id, safe="")
    looks = {"GET": "", "PATCH": "", "POST": "cancel/"}
    for method, path in (*looks.items(), ("POST", "rerun/"), ("GET", "events/")):
        options = content({"priority": "low"}) if method == "PATCH" else {}
        reply = shut_doors.send(method, f"{TASKS}{quoted}/{path}", **options)
        assert reply.status_code == 404, reply.text
        assert reply.json()["detail"].startswith("no task '")
        assert reply.json()["errors"] == []
    reply = shut_doors.send("GET", f"/api/v1/artifacts/{quoted}/content")
    assert (reply.status_code, reply.json()) == (404, {"detail": "no such artifact", "errors": []})
    for name in ("GetTask", "CancelTask"):
        assert shut_doors.call(name, {"id": task_id})["error"]["code"] == -32001


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_task_that_has_ended_cannot_be_cancelled(doors: Doors, status: TaskStatus) -> None:
    local = Client.objects.get_or_create(name=LOCAL_CLIENT)[0]
    task_id = str(Factory(local).in_state(status))
    before = doors.send("GET", f"{TASKS}{task_id}/").json()
    with nothing_left():
        reply = doors.send("POST", f"{TASKS}{task_id}/cancel/")
        answer = doors.call("CancelTask", {"id": task_id})
    assert (reply.status_code, answer["error"]["code"]) == (409, -32002)
    assert doors.send("GET", f"{TASKS}{task_id}/").json() == before


@pytest.mark.parametrize(("method", "status"), [("DELETE", 405), ("POST", 415), ("PUT", 405)])
def test_what_the_framework_itself_refuses_has_the_same_shape(shut_doors: Doors, method: str, status: int) -> None:
    reply = shut_doors.send(method, TASKS, content=b"a=b", headers={"content-type": "text/csv"})
    assert (reply.status_code, reply.json()["errors"]) == (status, [])
    assert reply.json()["detail"]


@pytest.mark.parametrize("more", [0, 1, 1_000])
def test_a_stream_that_was_read_to_its_end_is_not_opened_again(doors: Doors, more: int) -> None:
    """An EventSource asks again with the last id when its stream ends, and stops at a 204."""
    task = Task.objects.get(id=Factory(Client.objects.get_or_create(name=LOCAL_CLIENT)[0]).finished())
    path, last = f"{TASKS}{task.id}/events/", task.generation
    reply = doors.send("GET", path, headers={"last-event-id": str(last + more)})
    assert (reply.status_code, reply.content) == (204, b"")
    # One that is cut off before the last gets the last.
    reply = doors.send("GET", path, headers={"last-event-id": str(last - 1)})
    assert [line for line in reply.text.splitlines() if line.startswith("id:")] == [f"id: {last}"]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "²", "", " ", "9" * 5_000, "2147483648", "1e3", "0x1"])
def test_a_last_event_id_that_is_no_generation_is_named(doors: Doors, last: str) -> None:
    task_id = doors.submit(rest_body()).json()["id"]
    reply = doors.send("GET", f"{TASKS}{task_id}/events/", headers={"last-event-id": last.encode("latin-1")})
    assert reply.status_code == 400
    assert reply.json()["errors"][0]["field"] == "Last-Event-ID"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *[(f"status={value}", "status") for value in each("", "done", "TASK_STATE_WORKING", "Pending", "%00")],
        *[(f"priority={value}", "priority") for value in each("", "urgent", "1", "%00")],
        *[
            (f"page_size={value}", "page_size")
            for value in each("", "0", "-1", "101", "x", "1.5", "%C2%B2", "9" * 5_000)
        ],
        ("agent=%00", "agent"),
        ("context_id=a%00b", "context_id"),
        ("dead_leters=true", "dead_leters"),
        ("status=failed&Agent=echo", "Agent"),
    ],
)
def test_a_filter_that_names_nothing_is_refused_and_not_ignored(shut_doors: Doors, query: str, field: str) -> None:
    reply = shut_doors.send("GET", f"{TASKS}?{query}")
    assert reply.status_code == 400, reply.text
    assert reply.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("cursor", [b"", b"p=x", b"p=%00", b"o=x", b"r=1&p=", b"o=-1", b"\xff", b"p=1&p=2"])
def test_a_cursor_that_is_not_ours_never_fails_the_list(shut_doors: Doors, cursor: bytes) -> None:
    for text in (b64encode(cursor).decode(), cursor.decode("latin-1")):
        reply = shut_doors.send("GET", TASKS, params={"cursor": text})
        assert reply.status_code in (200, 400)
        assert [error["field"] for error in reply.json().get("errors", [])] in ([], ["cursor"])


# Too large -----------------------------------------------------------------------------------------------------------


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * 100


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused_by_the_agents_address(
    shut_doors: Doors, settings: Any, declared: bool
) -> None:
    settings.A2A_MAX_BODY_BYTES = 1_000
    with nothing_left():
        reply = shut_doors.send(
            "POST",
            "/a2a/echo/",
            headers={"content-type": "application/json"},
            content=b" " * 1_100 if declared else chunks(11),
        )
    assert reply.status_code == 413
    assert (reply.json()["error"]["code"], "body" in reply.json()["error"]["message"]) == (-32600, True)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"content": b" " * 1_001}, 413),
        ({"content": chunks(11)}, 413),
        ({"content": b"x", "headers": {"content-length": "many"}}, 413),
        ({"content": b"x", "headers": {"content-length": "9" * 5_000}}, 413),
        ({"content": b"x", "headers": {"content-length": "-1"}}, 413),
        ({"content": b" " * 1_000}, 200),
        ({"content": chunks(10)}, 200),
    ],
)
async def test_a_body_over_the_limit_never_reaches_django(options: dict[str, Any], status: int) -> None:
    read = 0

    async def reader(scope: Any, receive: Any, send: Any) -> None:
        nonlocal read
        more = True
        while more:
            part = await receive()
            read += len(part.get("body", b""))
            more = part.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(app=BoundedBody(reader, 1_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        reply = await asyncio.wait_for(client.post("/", **options), timeout=5)
    assert reply.status_code == status
    assert read <= 1_000
    if status == 413:
        assert reply.json()["errors"][0]["field"] == "body"


def test_a_submission_that_lies_about_its_size_is_refused(shut_doors: Doors, settings: Any) -> None:
    with nothing_left():
        reply = shut_doors.send("POST", TASKS, content=chunks_of(settings.A2A_MAX_BODY_BYTES + 1))
    assert reply.status_code == 413


async def chunks_of(size_bytes: int) -> AsyncIterator[bytes]:
    for start in range(0, size_bytes, 2**22):
        yield b" " * min(2**22, size_bytes - start)
