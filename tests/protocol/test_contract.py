"""One contract over the three bindings (A2A 1.0, section 5): the same operations, the same answers, the same errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from copy import copy
from typing import Any
from uuid import UUID, uuid4

import pytest
from a2a.types import Message, SendMessageResponse, StreamResponse, SubscribeToTaskRequest, TaskState
from a2a.types import Task as WireTask
from a2a.utils.proto_utils import validate_proto_required_fields
from django.db import connection
from google.protobuf.json_format import MessageToDict, ParseDict

from tasks_app import agents, engine
from tasks_app.engine import ArtifactRecord, Chunk, Finish, Note
from tasks_app.models import Outcome, Task
from tasks_app.status import Lane, TaskStatus
from tasks_app.web import Web
from tests.factory import Factory, admit, asks
from tests.live import wait_for
from tests.protocol.bindings import BINDINGS, PATHS, SERVICE, STREAMING, VERSION, Binding, Refused, over_grpc
from tests.protocol.doors import EXTENSION, Doors, message, nothing_left
from workers.testing import OneProcess, one_process

IMMEDIATELY = {"configuration": {"returnImmediately": True}}
#: Errors by name: JSON-RPC's code, HTTP's status, gRPC's status, the reason (section 5.4).
ERRORS: dict[str, tuple[int, int, str, str]] = {
    "TaskNotFound": (-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND"),
    "TaskNotCancelable": (-32002, 400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE"),
    "UnsupportedOperation": (-32004, 400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION"),
    "ContentTypeNotSupported": (-32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED"),
    "VersionNotSupported": (-32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED"),
    "InvalidParams": (-32602, 400, "INVALID_ARGUMENT", "INVALID_PARAMS"),
    "Internal": (-32603, 500, "INTERNAL", "INTERNAL_ERROR"),
}


@pytest.fixture
def system(transactional_db: None) -> Iterator[OneProcess]:
    with one_process() as running:
        yield running


def refuses(binding: Binding, error: str, method: str, params: dict[str, Any], **options: Any) -> Refused:
    """The refusal of a call, which must be this error."""
    with pytest.raises(Refused) as caught:
        (binding.stream if method in ("SendStreamingMessage", "SubscribeToTask") else binding.call)(
            method, params, **options
        )
    jsonrpc, http, grpc, reason = ERRORS[error]
    assert (caught.value.code, caught.value.reason, caught.value.domain) == (
        {"jsonrpc": jsonrpc, "rest": http, "grpc": grpc}[binding.name],
        reason,
        "a2a-protocol.org",
    )
    return caught.value


def text_artifact(text: str) -> ArtifactRecord:
    return ArtifactRecord(
        artifact_id="a",
        name="a",
        chunks=(Chunk(kind="text", content=text.encode(), media_type="text/plain"),),
        event=b"",
    )


def test_every_operation_of_the_service_is_there(binding: Binding, local: Factory) -> None:
    """Section 5.3. What is asked for is not, so that each operation answers by its own error."""
    assert set(PATHS) == set(SERVICE.methods_by_name)
    for method, declared in SERVICE.methods_by_name.items():
        known = declared.input_type.fields_by_camelcase_name
        params = {name: "x" for name in ("id", "taskId") if name in known}
        if method == "ListTasks":
            assert binding.call(method, params).get("tasks", []) == []
            continue
        with pytest.raises(Refused) as caught:
            (binding.stream if method in STREAMING else binding.call)(method, params)
        assert caught.value.reason in ("INVALID_PARAMS", "TASK_NOT_FOUND", "UNSUPPORTED_OPERATION"), method


def test_a_fault_of_ours_is_logged_and_tells_the_client_nothing(
    binding: Binding, local: Factory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Section 3.3.2."""

    async def broken(*_: Any) -> None:
        raise RuntimeError("a secret of the server's")

    task_id = str(local.pending())
    monkeypatch.setattr(Web, "task", broken)
    error = refuses(binding, "Internal", "GetTask", {"id": task_id})
    assert "secret" not in error.message
    assert "RuntimeError: a secret of the server's" in caplog.text


@pytest.mark.parametrize("name", ["jsonrpc", "rest"])
def test_json_is_that_of_the_proto_with_instants_in_utc(doors: Doors, system: OneProcess, name: str) -> None:
    """Sections 5.5 to 5.7: names in camelCase, enums by name, ISO 8601 with Z, and nothing required is missing."""
    binding = BINDINGS[name](doors)
    sent = binding.call("SendMessage", {"message": message()})
    page = binding.call("ListTasks", {"includeArtifacts": True, "historyLength": 9})
    streamed = [event.data for event in binding.stream("SendStreamingMessage", {"message": message()})]
    at_once = binding.call("SendMessage", {"message": message(), **IMMEDIATELY})
    for kind, answer in (
        (SendMessageResponse, sent),
        (SendMessageResponse, at_once),
        (WireTask, binding.call("GetTask", {"id": sent["task"]["id"]})),
        *[(WireTask, task) for task in page["tasks"]],
        *[(StreamResponse, event) for event in streamed],
    ):
        validate_proto_required_fields(ParseDict(answer, kind()))
        names, instants = said_by(answer)
        assert not [each for each in names if "_" in each]
        assert instants or "artifactUpdate" in answer
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3,6})?Z", each) for each in instants)
    assert sent["task"]["history"][0]["role"] == "ROLE_USER"


def said_by(data: Any) -> tuple[set[str], set[str]]:
    """The names of all fields outside of metadata, and the values of those that are instants."""
    names: set[str] = set()
    instants: set[str] = set()
    inner = data if isinstance(data, list) else []
    if isinstance(data, dict):
        names |= set(data)
        instants |= {data["timestamp"]} if "timestamp" in data else set()
        inner = [value for name, value in data.items() if name != "metadata"]
    for value in inner:
        more = said_by(value)
        names, instants = names | more[0], instants | more[1]
    return names, instants


@pytest.mark.parametrize("name", ["jsonrpc", "rest"])
def test_fields_of_a_later_version_are_ignored(doors: Doors, local: Factory, name: str) -> None:
    """Section 5.7."""
    said = message(parts=[{"text": "hello", "later": [1]}], later={"a": 1})
    configuration = {**IMMEDIATELY["configuration"], "later": 5}
    task = BINDINGS[name](doors).call("SendMessage", {"message": said, "configuration": configuration, "later": "x"})
    assert "later" not in str(task)


# SendMessage ---------------------------------------------------------------------------------------------------------


def test_a_message_blocks_until_its_task_has_ended(binding: Binding, system: OneProcess) -> None:
    task = binding.call("SendMessage", {"message": message(parts=[{"text": "hello"}])})["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [part["text"] for artifact in task["artifacts"] for part in artifact["parts"]] == ["hello"]
    assert [said["role"] for said in task["history"]] == ["ROLE_USER"]


def test_return_immediately_answers_when_the_task_is_stored(binding: Binding, local: Factory) -> None:
    """Section 3.2.2; DESIGN 9.1."""
    task = binding.call("SendMessage", {"message": message(contextId="c"), **IMMEDIATELY})["task"]
    assert (task["status"]["state"], task["contextId"]) == ("TASK_STATE_SUBMITTED", "c")
    assert task["metadata"]["generation"] == 1
    assert Task.objects.get(id=task["id"]).status == TaskStatus.PENDING


@pytest.mark.parametrize("status", [TaskStatus.INPUT_REQUIRED, TaskStatus.AUTH_REQUIRED])
def test_a_message_blocks_until_its_task_asks(
    binding: Binding, local: Factory, doors: Doors, status: TaskStatus
) -> None:
    """Section 3.2.2: an interrupted state is answered with all there is so far."""
    said = {"message": message()}
    task_id = UUID(binding.call("SendMessage", {**said, **IMMEDIATELY})["task"]["id"])
    claim = local.claim(admitted(task_id))
    doors.once_followed(task_id, lambda: local.write(claim, text_artifact("so far"), finish=asks(status)))
    # A repeat of the message waits for the same task.
    task = binding.call("SendMessage", said)["task"]
    assert task["status"]["state"] == f"TASK_STATE_{status.name}"
    assert task["artifacts"][0]["parts"][0]["text"] == "so far"


def test_who_waits_longer_than_the_server_does_gets_the_task_as_it_is(
    binding: Binding, local: Factory, settings: Any
) -> None:
    """Our choice, so that no connection is held for hours: docs/doors.md."""
    settings.A2A_BLOCKING_WAIT_S = 0.0
    assert binding.call("SendMessage", {"message": message()})["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"


def test_the_server_makes_the_ids_of_tasks_and_of_contexts_that_are_not_named(binding: Binding, local: Factory) -> None:
    """Sections 3.4.1 and 3.4.2."""
    one, two = (binding.call("SendMessage", {"message": message(), **IMMEDIATELY})["task"] for _ in range(2))
    assert len({one["id"], two["id"], one["contextId"], two["contextId"]}) == 4
    said = message(contextId=one["contextId"])
    again = binding.call("SendMessage", {"message": said, **IMMEDIATELY})["task"]
    assert (again["contextId"], again["id"] in (one["id"], two["id"])) == (one["contextId"], False)


@pytest.mark.parametrize("task_id", ["0199b3b4-0000-7000-8000-000000000000", "mine"])
def test_a_message_makes_no_task_of_an_id_that_its_client_chose(binding: Binding, local: Factory, task_id: str) -> None:
    """Section 3.4.2."""
    with nothing_left():
        for method in ("SendMessage", "SendStreamingMessage"):
            refuses(binding, "TaskNotFound", method, {"message": message(taskId=task_id)})


@pytest.mark.parametrize(("length", "shown"), [(None, 1), (0, 0), (1, 1), (9, 1)])
def test_an_answer_comes_with_as_much_history_as_its_message_asks_for(
    binding: Binding, local: Factory, length: int | None, shown: int
) -> None:
    """Section 3.2.4; none is left out, and not empty."""
    more = {} if length is None else {"historyLength": length}
    said = {"message": message(), "configuration": {"returnImmediately": True, **more}}
    for _ in range(2):  # as it was accepted, and as it is read again
        task = binding.call("SendMessage", said)["task"]
        assert (len(task.get("history", [])), "history" in task) == (shown, shown > 0)


def test_the_same_message_again_is_the_same_task_through_any_binding(doors: Doors, local: Factory) -> None:
    options = {EXTENSION: {"priority": "high", "timeout_s": 5, "parameters": {"seconds": 1, "steps": 2}}}
    said = {"message": message(metadata=options), "metadata": {"a": [1, 2.5, "x"]}, **IMMEDIATELY}
    made = [BINDINGS[name](doors).call("SendMessage", said, agent="sleep")["task"]["id"] for name in BINDINGS]
    assert len(set(made)) == 1
    assert Task.objects.get(id=made[0]).parameters == {"seconds": 1, "steps": 2}


def test_the_same_message_id_with_another_body_is_an_error(binding: Binding, local: Factory) -> None:
    said = message()
    binding.call("SendMessage", {"message": said, **IMMEDIATELY})
    changed = {"message": {**said, "parts": [{"text": "another"}]}, **IMMEDIATELY}
    with nothing_left():
        error = refuses(binding, "InvalidParams", "SendMessage", changed)
    assert error.fields == {"message.messageId"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"messageId": ""}, "message.messageId"),
        ({"role": "ROLE_AGENT"}, "message.role"),
        ({"role": "ROLE_UNSPECIFIED"}, "message.role"),
        ({"parts": []}, "message.parts"),
        ({"parts": [{}]}, "message.parts[0]"),
        ({"contextId": "c" * 200}, "message.contextId"),
        ({"metadata": {EXTENSION: {"priority": "urgent"}}}, f"message.metadata.{EXTENSION}.priority"),
        ({"metadata": {EXTENSION: {"timeout_s": -1}}}, f"message.metadata.{EXTENSION}.timeout_s"),
        ({"metadata": {EXTENSION: {"parameters": {"x": 1}}}}, f"message.metadata.{EXTENSION}.parameters"),
    ],
)
def test_a_message_that_is_none_is_refused_by_the_field(
    binding: Binding, local: Factory, changes: dict[str, Any], field: str
) -> None:
    """Section 5.7."""
    with nothing_left():
        error = refuses(binding, "InvalidParams", "SendMessage", {"message": {**message(), **changes}})
    assert error.fields == {field}
    assert field in error.message


def test_a_media_type_that_the_agent_does_not_take_is_refused(binding: Binding, local: Factory) -> None:
    said = message(parts=[{"raw": "QQ==", "mediaType": "image/png"}])
    with nothing_left():
        refuses(binding, "ContentTypeNotSupported", "SendMessage", {"message": said})


def test_a_tenant_is_an_agent_and_none_other_than_the_addressed(binding: Binding, local: Factory) -> None:
    """Section 8.3.2: the routing key that the card gives."""
    task = binding.call("SendMessage", {"message": message(), "tenant": "echo", **IMMEDIATELY})["task"]
    assert Task.objects.get(id=task["id"]).agent == "echo"
    for tenant in ("nobody", "a\x00", "x" * 500):
        error = refuses(binding, "InvalidParams", "SendMessage", {"message": message(), "tenant": tenant})
        assert error.fields == {"tenant"}


@pytest.mark.parametrize("version", ["", "0.2", "1.1", "2.0", "one"])
def test_another_version_is_refused(binding: Binding, local: Factory, version: str) -> None:
    """Section 3.6."""
    with nothing_left():
        refuses(binding, "VersionNotSupported", "SendMessage", {"message": message()}, a2a_version=version)


# GetTask -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "shown"), [(None, 3), (0, 0), (1, 1), (2, 2), (99, 3)])
def test_a_task_comes_with_as_much_history_as_is_asked_for(
    binding: Binding, local: Factory, length: int | None, shown: int
) -> None:
    """Section 3.2.4: the newest."""
    claim = local.claimed()
    said = [message(messageId=f"m{number}", role="ROLE_AGENT", parts=[{"text": str(number)}]) for number in range(2)]
    local.write(claim, *[Note(kind="message", message=ParseDict(m, Message()).SerializeToString()) for m in said])
    params = {"id": str(claim.task_id)} | ({} if length is None else {"historyLength": length})
    history = [entry["messageId"] for entry in binding.call("GetTask", params).get("history", [])]
    assert len(history) == shown
    assert history[-1:] == (["m1"] if shown else [])


def test_a_negative_history_length_is_refused(binding: Binding, local: Factory) -> None:
    task_id = str(local.pending())
    for method, params in {"GetTask": {"id": task_id}, "ListTasks": {}}.items():
        error = refuses(binding, "InvalidParams", method, {**params, "historyLength": -1})
        assert error.fields == {"historyLength"}


@pytest.mark.parametrize("task_id", ["0199b3b4-0000-7000-8000-000000000000", "garbage", "²", "a b", "%2e"])
def test_a_task_that_is_not_there_is_not_found(binding: Binding, local: Factory, task_id: str) -> None:
    for method in ("GetTask", "CancelTask", "SubscribeToTask"):
        refuses(binding, "TaskNotFound", method, {"id": task_id})


def test_another_agents_task_is_not_found_at_this_address(binding: Binding, local: Factory) -> None:
    task_id = str(local.pending())
    assert binding.call("GetTask", {"id": task_id})["id"] == task_id
    refuses(binding, "TaskNotFound", "GetTask", {"id": task_id}, agent="sleep")


# CancelTask ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.INPUT_REQUIRED])
def test_a_task_that_goes_on_is_cancelled(binding: Binding, local: Factory, status: TaskStatus) -> None:
    task_id = str(local.in_state(status))
    assert binding.call("CancelTask", {"id": task_id})["status"]["state"] == "TASK_STATE_CANCELED"
    refuses(binding, "TaskNotCancelable", "CancelTask", {"id": task_id})


# Streams -------------------------------------------------------------------------------------------------------------


def test_a_stream_gives_the_task_and_then_every_event_until_its_end(binding: Binding, system: OneProcess) -> None:
    """Section 3.1.2."""
    options = {EXTENSION: {"parameters": {"seconds": 0.3, "steps": 3}}}
    events = binding.stream("SendStreamingMessage", {"message": message(metadata=options)}, agent="sleep")
    kinds = [next(iter(event.data)) for event in events]
    assert kinds[0] == "task"
    assert set(kinds[1:]) == {"statusUpdate", "artifactUpdate"}
    assert events[0].data["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"
    assert events[-1].data["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    generations = [generation(event.data) for event in events]
    assert generations == list(range(1, len(events) + 1))
    assert [event.id for event in events] == ([0] * len(events) if binding.name == "grpc" else generations)


def generation(data: dict[str, Any]) -> int:
    (update,) = data.values()
    return int(update["metadata"]["generation"])


def test_a_stream_that_cannot_begin_is_a_plain_error(binding: Binding, local: Factory) -> None:
    with nothing_left():
        refuses(binding, "InvalidParams", "SendStreamingMessage", {"message": message(role="ROLE_AGENT")})


def test_a_subscription_begins_with_the_task_as_it_is(binding: Binding, local: Factory, doors: Doors) -> None:
    """Section 3.1.6."""
    claim = local.claimed()
    local.write(claim, Note(progress=0.5))
    before = Task.objects.get(id=claim.task_id).generation
    doors.once_followed(claim.task_id, lambda: local.write(claim, text_artifact("done"), finish=completed()))
    events = binding.stream("SubscribeToTask", {"id": str(claim.task_id)})
    assert events[0].data["task"]["status"]["state"] == "TASK_STATE_WORKING"
    assert [generation(event.data) for event in events] == [before, before + 1, before + 2]
    assert events[1].data["artifactUpdate"]["artifact"]["parts"][0]["text"] == "done"


def completed() -> Finish:
    return Finish(status=TaskStatus.COMPLETED, outcome=Outcome.COMPLETED)


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_there_is_nothing_to_subscribe_to_once_a_task_has_ended(
    binding: Binding, local: Factory, status: TaskStatus
) -> None:
    refuses(binding, "UnsupportedOperation", "SubscribeToTask", {"id": str(local.in_state(status))})


def test_a_stream_ends_where_input_is_required_and_a_subscription_does_not(
    binding: Binding, local: Factory, doors: Doors
) -> None:
    """Our choice where the specification disagrees with itself: docs/doors.md."""
    said = {"message": message()}
    task_id = UUID(binding.call("SendMessage", {**said, **IMMEDIATELY})["task"]["id"])
    claim = local.claim(admitted(task_id))
    ask = Finish(status=TaskStatus.INPUT_REQUIRED, outcome=Outcome.INTERRUPTED, wait_s=60)
    doors.once_followed(task_id, lambda: local.write(claim, finish=ask))
    # A repeat of the message follows the same task.
    events = binding.stream("SendStreamingMessage", said)
    assert events[-1].data["statusUpdate"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    again = binding.stream("SendStreamingMessage", said)
    assert [next(iter(event.data)) for event in again] == ["task"]
    doors.once_followed(task_id, lambda: engine.run(engine.request_cancel, [task_id], by="a test"))
    events = binding.stream("SubscribeToTask", {"id": str(task_id)})
    assert events[0].data["task"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert events[-1].data["statusUpdate"]["status"]["state"] == "TASK_STATE_CANCELED"


@pytest.mark.parametrize("method", STREAMING)
def test_a_stream_stays_open_while_authorisation_is_awaited(
    binding: Binding, local: Factory, doors: Doors, method: str
) -> None:
    """Section 7.6.1: it may come by another way."""
    said = {"message": message()}
    task_id = UUID(binding.call("SendMessage", {**said, **IMMEDIATELY})["task"]["id"])
    claim = local.claim(admitted(task_id))

    def turn() -> None:
        local.write(claim, finish=asks(TaskStatus.AUTH_REQUIRED))
        engine.run(engine.request_cancel, [task_id], by="a test")

    doors.once_followed(task_id, turn)
    # Section 3.2.2: on a stream returnImmediately has no effect.
    params = {**said, **IMMEDIATELY} if method == "SendStreamingMessage" else {"id": str(task_id)}
    events = binding.stream(method, params)
    states = [event.data["statusUpdate"]["status"]["state"] for event in events[1:]]
    assert states == ["TASK_STATE_AUTH_REQUIRED", "TASK_STATE_CANCELED"]


def test_streams_of_a_task_get_the_same_events_and_one_that_leaves_ends_no_other(doors: Doors, local: Factory) -> None:
    """Section 3.5.2; over gRPC, where a test can leave in the middle."""
    claim = local.claimed()
    request = SubscribeToTaskRequest(tenant="echo", id=str(claim.task_id)).SerializeToString()

    def work() -> None:
        try:
            local.write(claim, *[Note(progress=step / 10) for step in range(1, 6)], text_artifact("done"))
            local.write(claim, finish=completed())
        finally:
            connection.close()

    async def followed(channel: Any) -> list[list[StreamResponse]]:
        many = channel.unary_stream(
            f"/{SERVICE.full_name}/SubscribeToTask", response_deserializer=StreamResponse.FromString
        )
        calls = [many(request, metadata=tuple(VERSION.items()), timeout=30) for _ in range(3)]
        streams = [aiter(call) for call in calls]
        begun = [await anext(stream) for stream in streams]
        calls[0].cancel()
        await asyncio.to_thread(work)
        left = zip(begun[1:], streams[1:], strict=True)
        return [[first, *[event async for event in stream]] for first, stream in left]

    one, other = doors.ask(lambda _: over_grpc(followed))
    assert one == other
    numbers = [generation(MessageToDict(event)) for event in one]
    assert numbers == list(range(numbers[0], Task.objects.get(id=claim.task_id).generation + 1))
    assert one[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


def admitted(task_id: UUID) -> UUID:
    assert task_id in {hint.task_id for hint in admit({Lane.IO: 10, Lane.CPU: 10})}
    return task_id


@pytest.mark.parametrize("name", ["jsonrpc", "rest"])
def test_a_stream_resumes_after_the_last_event_that_was_seen(doors: Doors, local: Factory, name: str) -> None:
    binding = BINDINGS[name](doors)
    claim = local.claimed()
    local.write(claim, *[Note(kind="message", progress=step / 10) for step in range(5)], finish=completed())
    last = Task.objects.get(id=claim.task_id).generation
    for seen in range(1, last):
        events = binding.stream("SubscribeToTask", {"id": str(claim.task_id)}, last_event_id=str(seen))
        assert [event.id for event in events] == list(range(seen + 1, last + 1))
    refuses(binding, "UnsupportedOperation", "SubscribeToTask", {"id": str(claim.task_id)}, last_event_id=str(last))
    error = refuses(binding, "InvalidParams", "SubscribeToTask", {"id": str(claim.task_id)}, last_event_id="x")
    assert error.fields == {"Last-Event-ID"}


def test_subscribe_answers_get_too(doors: Doors, local: Factory) -> None:
    """The normative proto's verb; section 11.3.2 says POST."""
    claim = local.claimed()
    doors.once_followed(claim.task_id, lambda: local.write(claim, finish=completed()))
    reply = doors.send("GET", f"/a2a/echo/tasks/{claim.task_id}:subscribe", headers={"a2a-version": "1.0"})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert "TASK_STATE_COMPLETED" in reply.text


# Addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/sleep/", "/a2a/sleep/", "/a2a/sleep/sleep/"])
def test_the_http_binding_stands_below_every_address(doors: Doors, local: Factory, settings: Any, path: str) -> None:
    settings.A2A_DEFAULT_AGENT = "sleep"
    reply = doors.send(
        "POST", f"{path}message:send", json={"message": message(), **IMMEDIATELY}, headers={"a2a-version": "1.0"}
    )
    task_id = reply.json()["task"]["id"]
    assert Task.objects.get(id=task_id).agent == "sleep"
    assert doors.send("GET", f"{path}tasks/{task_id}", headers={"a2a-version": "1.0"}).json()["id"] == task_id


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("", "application/a2a+json"),
        ("*/*", "application/a2a+json"),
        ("application/a2a+json", "application/a2a+json"),
        ("application/json", "application/json"),
        ("application/json, application/a2a+json", "application/a2a+json"),
    ],
)
def test_the_http_binding_answers_in_a2as_media_type_or_in_plain_json(
    doors: Doors, local: Factory, accept: str, answered: str
) -> None:
    headers = {"a2a-version": "1.0", "accept": accept}
    for path, status in ((f"/a2a/echo/tasks/{local.pending()}", 200), (f"/a2a/echo/tasks/{uuid4()}", 404)):
        reply = doors.send("GET", path, headers=headers)
        assert (reply.status_code, reply.headers["content-type"]) == (status, answered)


@pytest.mark.parametrize(
    ("verb", "path"), [("GET", "nothing"), ("PUT", "tasks/x"), ("POST", "tasks"), ("GET", "message:send")]
)
def test_what_is_no_operation_is_not_there(doors: Doors, local: Factory, verb: str, path: str) -> None:
    reply = doors.send(verb, f"/a2a/echo/{path}", headers={"a2a-version": "1.0"})
    error = reply.json()["error"]
    assert (reply.status_code, error["status"]) == (404, "NOT_FOUND")
    assert error["details"][0]["reason"] == "METHOD_NOT_FOUND"


# Turns ---------------------------------------------------------------------------------------------------------------


def asking(local: Factory, status: TaskStatus = TaskStatus.INPUT_REQUIRED) -> str:
    """A task that waits for its client."""
    return str(local.finished(Finish(status=status, outcome=Outcome.INTERRUPTED, wait_s=60)))


@pytest.mark.parametrize("status", [TaskStatus.INPUT_REQUIRED, TaskStatus.AUTH_REQUIRED])
def test_an_answer_lets_a_task_go_on_in_its_context(binding: Binding, local: Factory, status: TaskStatus) -> None:
    """Section 3.4.3: the context is inferred."""
    task_id = asking(local, status)
    task = binding.call("SendMessage", {"message": message(taskId=task_id, messageId="m"), **IMMEDIATELY})["task"]
    assert (task["id"], task["contextId"], task["status"]["state"]) == (task_id, "context", "TASK_STATE_WORKING")
    assert [said["messageId"] for said in task["history"]][1:] == ["m"]


def test_a_message_to_a_task_that_is_busy_waits_for_its_turn(binding: Binding, local: Factory) -> None:
    claim = local.claimed()
    said = {"message": message(taskId=str(claim.task_id)), **IMMEDIATELY}
    assert binding.call("SendMessage", said)["task"]["status"]["state"] == "TASK_STATE_WORKING"
    assert local.write(claim, finish=completed()).status == TaskStatus.PENDING
    assert local.claim(admitted(claim.task_id)).turn == 2


def test_an_answer_that_blocks_waits_for_the_end_of_its_own_turn(
    binding: Binding, local: Factory, doors: Doors
) -> None:
    """DESIGN 10, «Streams and turns»."""
    task_id = UUID(asking(local))

    def turn() -> None:
        wait_for(lambda: Task.objects.get(id=task_id).status == TaskStatus.PENDING, what="the answer has come")
        local.write(local.claim(admitted(task_id)), text_artifact("thanks"), finish=completed())

    doors.once_followed(task_id, turn)
    task = binding.call("SendMessage", {"message": message(taskId=str(task_id))})["task"]
    assert (task["status"]["state"], task["artifacts"][0]["parts"][0]["text"]) == ("TASK_STATE_COMPLETED", "thanks")


def test_the_same_answer_again_is_no_second_turn(binding: Binding, local: Factory) -> None:
    task_id = asking(local)
    said = {"message": message(taskId=task_id), **IMMEDIATELY}
    before = binding.call("SendMessage", said)["task"]
    with nothing_left():
        assert binding.call("SendMessage", said)["task"]["metadata"] == before["metadata"]
        changed = {**said["message"], "parts": [{"text": "another"}]}
        assert refuses(binding, "InvalidParams", "SendMessage", {"message": changed}).fields == {"message.messageId"}


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_a_task_that_has_ended_takes_no_message(binding: Binding, local: Factory, status: TaskStatus) -> None:
    """Section 3.1.1."""
    said = {"message": message(taskId=str(local.in_state(status)))}
    with nothing_left():
        refuses(binding, "UnsupportedOperation", "SendMessage", said)
        refuses(binding, "UnsupportedOperation", "SendStreamingMessage", said)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"contextId": "another"}, "message.contextId"),
        ({"metadata": {EXTENSION: {"priority": "high"}}}, f"message.metadata.{EXTENSION}"),
        ({"referenceTaskIds": [str(uuid4())]}, "message.referenceTaskIds[0]"),
        ({"referenceTaskIds": ["x"]}, "message.referenceTaskIds[0]"),
    ],
)
def test_an_answer_that_does_not_fit_its_task_is_refused(
    binding: Binding, local: Factory, changes: dict[str, Any], field: str
) -> None:
    task_id = asking(local)
    with nothing_left():
        said = {"message": {**message(taskId=task_id), **changes}}
        assert refuses(binding, "InvalidParams", "SendMessage", said).fields == {field}


def test_tasks_of_its_own_may_be_referred_to(binding: Binding, local: Factory) -> None:
    said = message(referenceTaskIds=[str(local.pending()), str(local.finished())])
    assert binding.call("SendMessage", {"message": said, **IMMEDIATELY})["task"]["id"]


def test_so_many_messages_may_wait_for_the_turns_of_a_task(binding: Binding, local: Factory, settings: Any) -> None:
    settings.A2A_MAX_UNREAD = 1
    task_id = str(local.claimed().task_id)
    assert binding.call("SendMessage", {"message": message(taskId=task_id), **IMMEDIATELY})["task"]["id"] == task_id
    with nothing_left(), pytest.raises(Refused) as caught:
        binding.call("SendMessage", {"message": message(taskId=task_id), **IMMEDIATELY})
    assert caught.value.code == {"jsonrpc": -32029, "rest": 429, "grpc": "RESOURCE_EXHAUSTED"}[binding.name]


def test_a_message_refers_to_so_many_tasks_at_most(binding: Binding, local: Factory) -> None:
    said = {"message": message(referenceTaskIds=[str(uuid4())] * 101), **IMMEDIATELY}
    with nothing_left():
        assert refuses(binding, "InvalidParams", "SendMessage", said).fields == {"message.referenceTaskIds"}


def test_a_stream_follows_an_answer_to_the_end_of_its_turn(binding: Binding, local: Factory, doors: Doors) -> None:
    task_id = UUID(asking(local))

    def turn() -> None:
        local.write(local.claim(admitted(task_id)), text_artifact("thanks"), finish=completed())

    doors.once_followed(task_id, turn)
    events = binding.stream("SendStreamingMessage", {"message": message(taskId=str(task_id))})
    assert events[0].data["task"]["status"]["state"] == "TASK_STATE_WORKING"
    assert events[-1].data["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    generations = [generation(event.data) for event in events]
    assert generations == list(range(generations[0], generations[0] + len(events)))


@pytest.mark.parametrize("takes", [False, True])
def test_a_part_may_be_a_url_where_the_agent_takes_them(
    binding: Binding, local: Factory, monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    spec = copy(agents.get("sleep"))
    object.__setattr__(spec, "takes_urls", takes)
    monkeypatch.setitem(agents._registry, "sleep", spec)
    said = {"message": message(parts=[{"url": "https://example.org/a.png", "mediaType": "image/png"}]), **IMMEDIATELY}
    if takes:
        task = binding.call("SendMessage", said, agent="sleep")["task"]
        assert task["history"][0]["parts"][0]["url"] == "https://example.org/a.png"
    else:
        refuses(binding, "ContentTypeNotSupported", "SendMessage", said, agent="sleep")
