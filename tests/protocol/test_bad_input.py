"""What is wrong in a request is refused at both doors, by the name of its field, and leaves nothing behind."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.protocol.doors import (
    EXTENSION,
    TASKS,
    Doors,
    content,
    each,
    message,
    named_fields,
    nested,
    nothing_left,
    rest_body,
    with_options,
)

pytestmark = pytest.mark.django_db
NUL = "a\x00b"
#: Python's json writes them as NaN and Infinity, which are no JSON.
NOT_JSON = [float("nan"), float("inf"), float("-inf")]

OPTIONS: list[tuple[str, Any]] = [
    *[("priority", value) for value in each("urgent", "", NUL, 1, True, [], {})],
    *[
        (name, value)
        for name in ("timeout_s", "start_deadline_s")
        for value in each(0, -1, -0.0, "5", True, False, 1e99, 2**70, [], {}, "NaN")
    ],
    *[("run_after", value) for value in each("2026-01-01T00:00:00", "2026-01-01", "soon", "", NUL, 5, True, [], {})],
    *[("run_after", f"{year}-01-01T00:00:00Z") for year in ("0001", "1969", "3000", "9999", "10000", "-001")],
    *[
        ("run_after", value)
        for value in each("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-13-01T00:00Z")
    ],
    *[(name, value) for name in ("parameters", "resources") for value in each([], "x", "", 0, 5, True, False, [{}])],
    ("unknown", 1),
    ("Priority", "high"),
]
PARAMETERS: list[tuple[str, dict[str, Any], str]] = [
    ("echo", {"unexpected": 1}, "parameters"),
    ("echo", {NUL: 1}, "parameters"),
    ("sleep", {"seconds": "1"}, "parameters.seconds"),
    ("sleep", {"seconds": -1}, "parameters.seconds"),
    ("sleep", {"seconds": 1e300}, "parameters.seconds"),
    ("sleep", {"seconds": nested(20)}, "parameters.seconds"),
    ("sleep", {"steps": 1.5}, "parameters.steps"),
    ("sleep", {"steps": None}, "parameters.steps"),
    ("imaging", {"window_center": 1}, "parameters"),
    ("imaging", {"preview_px": 2**62}, "parameters.preview_px"),
]
RESOURCES: list[tuple[dict[str, Any], str]] = [
    ({"memory": 1}, "resources.memory"),
    ({"memory_mb": NUL}, "resources.memory_mb"),
    ({"memory_mb": -1}, "resources.memory_mb"),
    ({"memory_mb": 1.5}, "resources.memory_mb"),
    ({"memory_mb": 2**31}, "resources.memory_mb"),
    ({"disk_mb": [1]}, "resources.disk_mb"),
    ({"cores": True}, "resources.cores"),
    ({"cpu_s": {"a": [{"b": NUL}]}}, "resources.cpu_s"),
]
MESSAGES: list[tuple[Any, str]] = [
    *[(value, "message") for value in each(None, [], "hello", "", 5, True)],
    *[(message(parts=value), "message.parts") for value in each(..., None, [], {}, "", "text", 5, {"text": "x"})],
    (message(parts=[{"text": "x"}] * 1001), "message.parts"),
    *[
        (message(parts=[{"text": "x"}, value]), "message.parts[1]")
        for value in each(None, "x", 5, [], {}, {"kind": "text"})
    ],
    (message(parts=[{"text": "x", "data": {}}]), "message.parts[0]"),
    (message(parts=[{"text": "x", "raw": None}]), "message.parts[0]"),
    *[(message(parts=[{"text": value}]), "message.parts[0].text") for value in each(None, 5, [], {}, True)],
    *[(message(parts=[{"raw": value}]), "message.parts[0].raw") for value in each(None, 5, [], {"bytes": ""})],
    *[
        (message(parts=[{"raw": text}]), "message.parts[0].raw")
        for text in ("é", "Q", "Q Q=", "QQ\n", "====", "=", "QQ=")
    ],
    *[
        (message(parts=[{"raw": text}]), "message.parts[0].raw")
        for text in ("QUJD=", "QQ==QQ==", "data:,x", NUL, "QUJDR")
    ],
    *[
        (message(parts=[{"text": "", "mediaType": value}]), "message.parts[0].mediaType")
        for value in each(NUL, 5, None, [])
    ],
    *[
        (message(parts=[{"text": "", "filename": value}]), "message.parts[0].filename")
        for value in each(NUL, 5, None, [])
    ],
    *[
        (message(role=value), "message.role")
        for value in each("ROLE_AGENT", "ROLE_UNSPECIFIED", "user", "", "1", 0, 2, [])
    ],
    *[(message(role=value), "message.role") for value in each(None, True, 1.0, {"a": 1})],
    *[(message(messageId=value), "message.messageId") for value in each(None, "", "x" * 257, NUL, 5, True, [], {})],
    *[(message(contextId=value), "message.contextId") for value in each("x" * 129, NUL, 5, [], {})],
    *[(message(metadata=value), "message.metadata") for value in each("x", 5, [], True, EXTENSION)],
]
MEDIA: list[tuple[str, dict[str, Any], str]] = [
    ("echo", {"url": "https://example.org/a.png"}, "message.parts[0].url"),
    ("echo", {"url": "file:///etc/passwd"}, "message.parts[0].url"),
    ("echo", {"raw": "QQ==", "mediaType": "image/png"}, "message.parts[0].mediaType"),
    ("imaging", {"raw": "QQ==", "mediaType": "application/zip"}, "message.parts[0].mediaType"),
    ("imaging", {"text": "x", "mediaType": "text/plain"}, "message.parts[0].mediaType"),
]


def refused_by_rest(doors: Doors, body: Any, *, field: str, status: int = 400) -> None:
    with nothing_left():
        reply = doors.submit(body)
    assert reply.status_code == status, reply.text
    answer = reply.json()
    assert [error["field"] for error in answer["errors"]] == [field]
    assert field in answer["detail"]


def refused_by_jsonrpc(doors: Doors, params: Any, *, field: str, code: int = -32602, agent: str = "echo") -> None:
    for method in ("SendMessage", "SendStreamingMessage"):
        with nothing_left():
            answer = doors.call(method, params, agent=agent)
        assert answer["error"]["code"] == code, answer
        assert field in named_fields(answer), answer
        assert answer["error"]["message"].startswith(field)


@pytest.mark.parametrize(("field", "value"), OPTIONS)
def test_an_option_that_is_unknown_or_wrong_is_named(shut_doors: Doors, field: str, value: Any) -> None:
    refused_by_rest(shut_doors, rest_body(**{field: value}), field=field)
    path = f"message.metadata.{EXTENSION}.{field}"
    refused_by_jsonrpc(shut_doors, with_options(**{field: value}), field=path)


@pytest.mark.parametrize(("agent", "parameters", "field"), PARAMETERS)
def test_parameters_that_do_not_fit_the_agents_schema_are_named(
    shut_doors: Doors, agent: str, parameters: dict[str, Any], field: str
) -> None:
    refused_by_rest(shut_doors, rest_body(agent=agent, parameters=parameters), field=field)
    path = f"message.metadata.{EXTENSION}.{field}"
    refused_by_jsonrpc(shut_doors, with_options(parameters=parameters), field=path, agent=agent)


@pytest.mark.parametrize(("resources", "field"), RESOURCES)
def test_resources_that_make_no_sense_are_named(shut_doors: Doors, resources: dict[str, Any], field: str) -> None:
    refused_by_rest(shut_doors, rest_body(resources=resources), field=field)
    path = f"message.metadata.{EXTENSION}.{field}"
    refused_by_jsonrpc(shut_doors, with_options(resources=resources), field=path)


@pytest.mark.parametrize(("said", "field"), MESSAGES)
def test_a_message_that_is_not_one_is_named_by_its_wrong_field(shut_doors: Doors, said: Any, field: str) -> None:
    refused_by_rest(shut_doors, rest_body(message=said), field=field)
    refused_by_jsonrpc(shut_doors, {"message": said}, field=field)


@pytest.mark.parametrize(("agent", "part", "field"), MEDIA)
def test_content_that_the_agent_does_not_take_is_unsupported(
    shut_doors: Doors, agent: str, part: dict[str, Any], field: str
) -> None:
    said = message(parts=[part])
    refused_by_rest(shut_doors, rest_body(agent=agent, message=said), field=field, status=415)
    refused_by_jsonrpc(shut_doors, {"message": said}, field=field, code=-32005, agent=agent)


@pytest.mark.parametrize("value", [[], "x", "", 0, 5, True, False, {"a": NUL}, {NUL: 1}, [{}]])
def test_metadata_that_is_no_object_or_holds_nul_is_named(shut_doors: Doors, value: Any) -> None:
    refused_by_rest(shut_doors, rest_body(metadata=value), field="metadata")
    refused_by_jsonrpc(shut_doors, {"message": message(), "metadata": value}, field="metadata")


@pytest.mark.parametrize("value", [[], "x", "", 0, 5, True, False, {"timeout_s": {}}])
def test_options_that_are_no_object_are_named(shut_doors: Doors, value: Any) -> None:
    path = f"message.metadata.{EXTENSION}"
    field = f"{path}.timeout_s" if isinstance(value, dict) else path
    refused_by_jsonrpc(shut_doors, {"message": message(metadata={EXTENSION: value})}, field=field)


@pytest.mark.parametrize("value", [..., None, "", "nobody", NUL, 5, True, [], {}])
def test_an_agent_that_is_not_there_is_named(shut_doors: Doors, value: Any) -> None:
    body = {name: item for name, item in rest_body(agent=value).items() if item is not ...}
    refused_by_rest(shut_doors, body, field="agent")
    unknown = shut_doors.send("POST", "/a2a/nobody/", content=b"{}")
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (404, "agent")


@pytest.mark.parametrize("value", NOT_JSON)
@pytest.mark.parametrize("field", ["timeout_s", "parameters", "metadata", "message"])
def test_a_number_that_json_does_not_have_is_refused(shut_doors: Doors, field: str, value: float) -> None:
    wrong = value if field == "timeout_s" else {"seconds": value}
    with nothing_left():
        assert shut_doors.submit(rest_body(**{field: wrong})).status_code == 400
        assert shut_doors.call("SendMessage", {**with_options(), field: wrong})["error"]["code"] == -32700


@pytest.mark.parametrize("levels", [33, 40, 100, 300, 900])
@pytest.mark.parametrize("field", ["parameters", "resources", "metadata", "message"])
def test_a_body_nested_too_deep_is_refused_before_it_is_read(shut_doors: Doors, field: str, levels: int) -> None:
    """Protobuf would write it and not read it again; Python's own recursion ends a little deeper."""
    deep = nested(levels)
    refused_by_rest(shut_doors, rest_body(**{field: deep}), field="body")
    refused_by_jsonrpc(shut_doors, {**with_options(), field: deep}, field="body")
    said = message(parts=[{"data": deep}])
    refused_by_rest(shut_doors, rest_body(message=said), field="body")
    refused_by_jsonrpc(shut_doors, {"message": said}, field="body")


@pytest.mark.parametrize(
    "body",
    [
        b" ",
        b"{",
        b"nonsense",
        b'{"agent": "echo",}',
        b"\xff\xfe{}",
        b'{"agent": "\xff"}',
        b'{"agent": "\\ud800"}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"timeout_s": ' + b"9" * 5_000 + b"}",
        b'{"timeout_s": 1e999}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_not_json_is_refused(shut_doors: Doors, body: bytes) -> None:
    with nothing_left():
        reply = shut_doors.submit(body)
        answer = shut_doors.post(body)
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("the body is not JSON")
    assert (answer["id"], answer["error"]["code"]) == (None, -32700)


@pytest.mark.parametrize("body", [[], [{}], "x", 5, True, None])
def test_a_body_that_is_no_object_is_refused(shut_doors: Doors, body: Any) -> None:
    refused_by_rest(shut_doors, body, field="body")
    with nothing_left():
        assert shut_doors.post(body)["error"]["code"] == -32600


@pytest.mark.parametrize("value", ["0199b3b4-0000-7000-8000-000000000000", "garbage", NUL])
def test_a_message_to_a_task_that_is_not_there_is_refused(shut_doors: Doors, value: str) -> None:
    with nothing_left():
        refused_by_rest(shut_doors, rest_body(message=message(taskId=value)), field="message.taskId")
        reply = shut_doors.send("POST", f"{TASKS}{quote(value)}/messages/", **content({"message": message()}))
        answer = shut_doors.call("SendMessage", {"message": message(taskId=value)})
    assert (reply.status_code, answer["error"]["code"]) == (404, -32001)


def test_a_media_type_of_another_kind_of_body_is_refused(shut_doors: Doors) -> None:
    with nothing_left():
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "\xff"):
            headers = {"content-type": kind.encode("latin-1")}
            reply = shut_doors.send("POST", "/api/v1/tasks/", content=b"agent=echo", headers=headers)
            assert reply.status_code == 415, reply.text
