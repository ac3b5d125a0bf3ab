"""0.3 over its bindings, on the same operations (A2A 0.3; A2A 1.0, section 3.6): shapes, states, streams and errors."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb2
from a2a.compat.v0_3 import a2a_v0_3_pb2_grpc, types
from a2a.compat.v0_3.proto_utils import FromProto
from a2a.types import Message, Part, Role

from tasks_app import agents, engine
from tasks_app.agents import Skill
from tasks_app.engine import ArtifactRecord, Chunk, Finish, Note
from tasks_app.models import ApiKey, Client, Outcome, PushConfig, Task
from tasks_app.models.client import LOCAL_CLIENT
from tasks_app.status import Lane, Priority, TaskStatus
from tests.factory import Factory, admit
from tests.protocol.bindings import Refused, over_grpc
from tests.protocol.bindings_v0_3 import BINDINGS, STREAMING, Binding, Denied
from tests.protocol.doors import EXTENSION, Doors, each, nothing_left
from workers.testing import OneProcess, one_process

AT_ONCE = {"configuration": {"blocking": False}}
#: 0.3's codes; HTTP's and gRPC's status; the name that its clients know (A2A 0.3, section 8).
ERRORS: dict[str, tuple[int, int, str]] = {
    "TaskNotFoundError": (-32001, 404, "NOT_FOUND"),
    "TaskNotCancelableError": (-32002, 400, "FAILED_PRECONDITION"),
    "PushNotificationNotSupportedError": (-32003, 400, "FAILED_PRECONDITION"),
    "UnsupportedOperationError": (-32004, 400, "FAILED_PRECONDITION"),
    "ContentTypeNotSupportedError": (-32005, 400, "INVALID_ARGUMENT"),
    "InvalidParamsError": (-32602, 400, "INVALID_ARGUMENT"),
}
STATES = {
    TaskStatus.PENDING: "submitted",
    TaskStatus.RUNNING: "working",
    TaskStatus.INPUT_REQUIRED: "input-required",
    TaskStatus.AUTH_REQUIRED: "auth-required",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "canceled",
    TaskStatus.REJECTED: "rejected",
}


@pytest.fixture(params=BINDINGS)
def binding(request: pytest.FixtureRequest, doors: Doors) -> Binding:
    made: Binding = BINDINGS[request.param](doors)
    return made


@pytest.fixture
def local(transactional_db: None, settings: Any) -> Factory:
    """Makes tasks of the client that requests without a key belong to, and of the agent that gRPC's address has."""
    settings.A2A_DEFAULT_AGENT = "echo"
    return Factory(Client.objects.get_or_create(name=LOCAL_CLIENT)[0])


@pytest.fixture
def system(local: Factory) -> Any:
    with one_process() as running:
        yield running


def message(**changes: Any) -> dict[str, Any]:
    """A valid message of 0.3, with changes; what is changed to ``...`` is left out."""
    parts = [{"kind": "text", "text": "hello"}]
    whole = {"kind": "message", "messageId": str(uuid4()), "role": "user", "parts": parts, **changes}
    return {name: value for name, value in whole.items() if value is not ...}


def refuses(binding: Binding, error: str, method: str, params: dict[str, Any], **options: Any) -> Refused:
    """The refusal of a call, which must be this error."""
    with pytest.raises(Refused) as caught:
        (binding.stream if method in STREAMING else binding.call)(method, params, **options)
    jsonrpc, http, grpc = ERRORS[error]
    code = {"jsonrpc": jsonrpc, "rest": http, "grpc": grpc}[binding.name]
    assert (caught.value.code, caught.value.reason) == (code, "" if binding.name == "jsonrpc" else error)
    return caught.value


def finish(status: TaskStatus, outcome: Outcome) -> Finish:
    return Finish(status=status, outcome=outcome, wait_s=60 if outcome == Outcome.INTERRUPTED else 0)


COMPLETED = finish(TaskStatus.COMPLETED, Outcome.COMPLETED)
ASKING = finish(TaskStatus.INPUT_REQUIRED, Outcome.INTERRUPTED)


def artifact(*chunks: Chunk) -> ArtifactRecord:
    return ArtifactRecord(artifact_id="a", name="report", chunks=chunks, event=b"")


def admitted(task_id: UUID) -> UUID:
    assert task_id in {hint.task_id for hint in admit({Lane.IO: 10, Lane.CPU: 10})}
    return task_id


# message/send --------------------------------------------------------------------------------------------------------


def test_a_message_blocks_until_its_task_has_ended_unless_it_says_otherwise(
    binding: Binding, system: OneProcess
) -> None:
    task = binding.call("message/send", {"message": message()})
    assert (task["kind"], task["status"]["state"]) == ("task", "completed")
    assert [part for one in task["artifacts"] for part in one["parts"]] == [{"kind": "text", "text": "hello"}]
    assert [(said["kind"], said["role"]) for said in task["history"]] == [("message", "user")]
    blocking = {"configuration": {"blocking": True}}
    assert binding.call("message/send", {"message": message(), **blocking})["status"]["state"] == "completed"


def test_what_does_not_block_answers_when_the_task_is_stored(binding: Binding, local: Factory) -> None:
    task = binding.call("message/send", {"message": message(contextId="c"), **AT_ONCE})
    assert (task["status"]["state"], task["contextId"]) == ("submitted", "c")
    assert task["history"][0]["parts"] == [{"kind": "text", "text": "hello"}]
    assert Task.objects.get(id=task["id"]).status == TaskStatus.PENDING


def test_every_kind_of_part_arrives_as_1_0_has_it(binding: Binding, local: Factory) -> None:
    parts = [
        {"kind": "text", "text": "hello", "metadata": {"a": 1}},
        {
            "kind": "file",
            "file": {"bytes": "AP8=", "mimeType": "text/plain", "name": "a"},
        },
        {"kind": "data", "data": {"n": [1, None, {"x": "y"}]}},
    ]
    said = message(parts=parts, extensions=["urn:x"], metadata={"k": "v"})
    task_id = binding.call("message/send", {"message": said, "metadata": {"study": "x"}, **AT_ONCE})["id"]
    task = Task.objects.get(id=task_id)
    expected = Message(message_id=said["messageId"], role=Role.ROLE_USER, extensions=["urn:x"])
    expected.parts.extend([Part(text="hello"), Part(raw=b"\x00\xff", media_type="text/plain", filename="a")])
    expected.parts.add().data.struct_value.update({"n": [1, None, {"x": "y"}]})
    expected.parts[0].metadata.update({"a": 1})
    expected.metadata.update({"k": "v"})
    assert task.messages == [expected]
    assert task.metadata == {"study": "x"}
    # and goes back as it came
    (history,) = binding.call("tasks/get", {"id": task_id})["history"]
    assert [plain(part) for part in history["parts"]] == [plain(part) for part in parts]


def plain(data: Any) -> Any:
    """Without the fields that a binding says though nothing is in them."""
    if isinstance(data, dict):
        return {name: plain(value) for name, value in data.items() if value != {}}
    return data


def test_our_options_stay_the_numbers_that_they_are(binding: Binding, local: Factory, settings: Any) -> None:
    settings.A2A_DEFAULT_AGENT = "sleep"
    options = {EXTENSION: {"priority": "high", "timeout_s": 5, "parameters": {"seconds": 1, "steps": 2}}}
    said = {"message": message(metadata=options), **AT_ONCE}
    task = Task.objects.get(id=binding.call("message/send", said, agent="sleep")["id"])
    assert task.parameters == {"seconds": 1, "steps": 2}
    assert [type(value) for value in task.parameters.values()] == [int, int]
    assert (Priority(task.priority), task.timeout_s) == (Priority.HIGH, 5.0)


def test_the_same_message_again_is_the_same_task(binding: Binding, local: Factory) -> None:
    said = {"message": message(), **AT_ONCE}
    first = binding.call("message/send", said)
    with nothing_left():
        assert binding.call("message/send", said)["id"] == first["id"]
        changed = {**said["message"], "parts": [{"kind": "text", "text": "another"}]}
        error = refuses(binding, "InvalidParamsError", "message/send", {"message": changed, **AT_ONCE})
    assert "message.messageId" in error.message


def test_a_message_by_task_id_goes_on_with_its_task(binding: Binding, local: Factory) -> None:
    task_id = str(local.finished(ASKING))
    task = binding.call("message/send", {"message": message(taskId=task_id, messageId="m"), **AT_ONCE})
    assert (task["id"], task["status"]["state"]) == (task_id, "working")
    assert [said["messageId"] for said in task["history"]][1:] == ["m"]
    ended = str(local.in_state(TaskStatus.COMPLETED))
    refuses(binding, "UnsupportedOperationError", "message/send", {"message": message(taskId=ended)})


def test_as_much_history_as_is_asked_for_and_0_is_all(binding: Binding, local: Factory) -> None:
    """0.3's proto: «if 0, the history will be unlimited»."""
    claim = local.claimed()
    said = [Message(message_id=f"m{n}", role=Role.ROLE_AGENT, parts=[Part(text="x")]) for n in range(2)]
    local.write(claim, *[Note(kind="message", message=one.SerializeToString()) for one in said])
    for length, shown in {None: 3, 0: 3, 1: 1, 2: 2, 9: 3}.items():
        params = {"id": str(claim.task_id)} | ({} if length is None else {"historyLength": length})
        assert len(binding.call("tasks/get", params)["history"]) == shown


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"messageId": ""}, "message.messageId"),
        ({"role": "agent"}, "message.role"),
        ({"parts": []}, "message.parts"),
        ({"contextId": "c" * 200}, "message.contextId"),
        ({"metadata": {EXTENSION: {"priority": "urgent"}}}, f"message.metadata.{EXTENSION}.priority"),
        ({"metadata": {EXTENSION: {"parameters": {"x": 1}}}}, f"message.metadata.{EXTENSION}.parameters"),
    ],
)
def test_a_message_that_is_none_is_refused_by_0_3s_name_of_the_field(
    binding: Binding, local: Factory, changes: dict[str, Any], field: str
) -> None:
    if binding.name != "jsonrpc":
        field = field.replace("message.parts", "message.content")
    with nothing_left():
        error = refuses(binding, "InvalidParamsError", "message/send", {"message": {**message(), **changes}})
    assert field in error.message
    if binding.name != "grpc":
        assert error.fields == {field}


def test_a_file_that_the_agent_cannot_take_is_refused(binding: Binding, local: Factory) -> None:
    image = {"kind": "file", "file": {"bytes": "QQ==", "mimeType": "image/png"}}
    elsewhere = {"kind": "file", "file": {"uri": "https://example.org/a", "mimeType": "text/plain"}}
    names = {"jsonrpc": ("bytes", "uri"), "rest": ("fileWithBytes", "fileWithUri"), "grpc": ("", "fileWithUri")}
    for part, name in ((image, "mimeType"), (elsewhere, names[binding.name][1])):
        with nothing_left():
            error = refuses(binding, "ContentTypeNotSupportedError", "message/send", {"message": message(parts=[part])})
        where = "parts" if binding.name == "jsonrpc" else "content"
        assert f"message.{where}[0].file.{name}" in error.message


@pytest.mark.parametrize("part", [{"text": "hello"}, {"type": "text", "text": "hello"}])
def test_a_part_need_not_say_what_it_is(doors: Doors, local: Factory, part: dict[str, Any]) -> None:
    """0.3's SDK has always taken it so."""
    task = BINDINGS["jsonrpc"](doors).call("message/send", {"message": message(parts=[part]), **AT_ONCE})
    assert task["history"][0]["parts"] == [{"kind": "text", "text": "hello"}]


# tasks/get, tasks/cancel ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", TaskStatus)
def test_every_state_has_its_name(binding: Binding, local: Factory, status: TaskStatus) -> None:
    task = binding.call("tasks/get", {"id": str(local.in_state(status))})
    assert task["status"]["state"] == STATES[status]
    types.Task.model_validate(task)


def test_a_task_is_cancelled_once(binding: Binding, local: Factory) -> None:
    params = {"id": str(local.claimed().task_id)}
    assert binding.call("tasks/cancel", params)["status"]["state"] == "canceled"
    refuses(binding, "TaskNotCancelableError", "tasks/cancel", params)


@pytest.mark.parametrize("task_id", ["0199b3b4-0000-7000-8000-000000000000", "garbage", "²", "a b"])
def test_a_task_that_is_not_there_is_not_found(binding: Binding, local: Factory, task_id: str) -> None:
    for method in ("tasks/get", "tasks/cancel", "tasks/resubscribe"):
        refuses(binding, "TaskNotFoundError", method, {"id": task_id})


# Streams -------------------------------------------------------------------------------------------------------------


def test_a_stream_gives_the_task_and_then_every_event_and_says_which_is_the_last(
    binding: Binding, system: OneProcess, settings: Any
) -> None:
    settings.A2A_DEFAULT_AGENT = "sleep"
    said = message(metadata={EXTENSION: {"parameters": {"seconds": 0.3, "steps": 3}}})
    events = binding.stream("message/stream", {"message": said}, agent="sleep")
    kinds = [event.data["kind"] for event in events]
    assert (kinds[0], set(kinds[1:])) == ("task", {"status-update", "artifact-update"})
    updates = [event.data for event in events if event.data["kind"] == "status-update"]
    assert [update["final"] for update in updates] == [False] * (len(updates) - 1) + [True]
    assert events[-1].data["status"]["state"] == "completed"
    generations = [event.data["metadata"]["generation"] for event in events]
    assert generations == list(range(1, len(events) + 1))
    assert [event.id for event in events] == ([0] * len(events) if binding.name == "grpc" else generations)


@pytest.mark.parametrize("method", STREAMING)
def test_a_stream_ends_where_input_is_required(binding: Binding, local: Factory, doors: Doors, method: str) -> None:
    """0.3's proto: the stream completes when the task is interrupted or has ended."""
    said = {"message": message(), **AT_ONCE}
    task_id = UUID(binding.call("message/send", said)["id"])
    claim = local.claim(admitted(task_id))
    doors.once_followed(task_id, lambda: local.write(claim, finish=ASKING))
    events = binding.stream(method, said if method == "message/stream" else {"id": str(task_id)})
    assert events[0].data["kind"] == "task"
    assert (events[-1].data["status"]["state"], events[-1].data["final"]) == ("input-required", True)


def test_authorisation_that_is_awaited_does_not_end_a_stream(binding: Binding, local: Factory, doors: Doors) -> None:
    """0.3's proto: it comes out of band, and thus the state is no interruption."""
    claim = local.claimed()
    task_id = claim.task_id

    def turn() -> None:
        local.write(claim, finish=finish(TaskStatus.AUTH_REQUIRED, Outcome.INTERRUPTED))
        engine.run(engine.request_cancel, [task_id], by="a test")

    doors.once_followed(task_id, turn)
    events = binding.stream("tasks/resubscribe", {"id": str(task_id)})
    states = [(event.data["status"]["state"], event.data.get("final")) for event in events]
    assert states[1:] == [("auth-required", False), ("canceled", True)]


def test_a_task_that_has_ended_is_resubscribed_to_as_it_is(binding: Binding, local: Factory) -> None:
    """0.3's proto: «the stream will return the completed task (like GetTask) and close»."""
    events = binding.stream("tasks/resubscribe", {"id": str(local.in_state(TaskStatus.COMPLETED))})
    assert [(event.data["kind"], event.data["status"]["state"]) for event in events] == [("task", "completed")]


def test_a_task_that_waits_for_input_is_resubscribed_to_as_it_is(binding: Binding, local: Factory) -> None:
    events = binding.stream("tasks/resubscribe", {"id": str(local.in_state(TaskStatus.INPUT_REQUIRED))})
    assert [(event.data["kind"], event.data["status"]["state"]) for event in events] == [("task", "input-required")]


def test_an_artifact_comes_with_parts_of_0_3(binding: Binding, local: Factory, doors: Doors) -> None:
    claim = local.claimed()
    made = artifact(
        Chunk(kind="raw", content=b"\x00\xff", media_type="image/png", filename="a.png"),
        Chunk(kind="data", content=b'{"n": 1}', media_type=""),
        Chunk(kind="data", content=b"[1, 2]", media_type=""),
    )
    doors.once_followed(claim.task_id, lambda: local.write(claim, made, finish=COMPLETED))
    events = binding.stream("tasks/resubscribe", {"id": str(claim.task_id)})
    update = next(event.data for event in events if event.data["kind"] == "artifact-update")
    assert [plain(part) for part in update["artifact"]["parts"]] == [
        {"kind": "file", "file": {"bytes": b64encode(b"\x00\xff").decode(), "mimeType": "image/png", "name": "a.png"}},
        {"kind": "data", "data": {"n": 1}},
        {"kind": "data", "data": {"value": [1, 2]}, "metadata": {"data_part_compat": True}},
    ]


@pytest.mark.parametrize("name", [name for name in BINDINGS if name != "grpc"])
def test_a_stream_resumes_after_the_last_event_that_was_seen(doors: Doors, local: Factory, name: str) -> None:
    binding = BINDINGS[name](doors)
    claim = local.claimed()
    local.write(claim, *[Note(kind="message", progress=step / 10) for step in range(3)], finish=COMPLETED)
    last = Task.objects.get(id=claim.task_id).generation
    for seen in range(1, last):
        events = binding.stream("tasks/resubscribe", {"id": str(claim.task_id)}, last_event_id=str(seen))
        assert [event.id for event in events] == list(range(seen + 1, last + 1))
        assert [event.data["final"] for event in events] == [False] * (last - seen - 1) + [True]
    error = refuses(binding, "InvalidParamsError", "tasks/resubscribe", {"id": str(claim.task_id)}, last_event_id="x")
    assert error.fields == {"Last-Event-ID"}


def test_a_question_that_was_answered_since_does_not_end_what_is_resumed(doors: Doors, local: Factory) -> None:
    binding = BINDINGS["jsonrpc"](doors)
    task_id = local.finished(ASKING)
    binding.call("message/send", {"message": message(taskId=str(task_id)), **AT_ONCE})
    claim = local.claim(admitted(task_id))
    doors.once_followed(task_id, lambda: local.write(claim, finish=COMPLETED))
    events = binding.stream("tasks/resubscribe", {"id": str(task_id)}, last_event_id="1")
    states = [(event.data["status"]["state"], event.data["final"]) for event in events]
    assert ("input-required", False) in states
    assert states[-1] == ("completed", True)


def test_a_stream_that_cannot_begin_is_a_plain_error(binding: Binding, local: Factory) -> None:
    with nothing_left():
        refuses(binding, "InvalidParamsError", "message/stream", {"message": message(messageId="")})


# Push notifications --------------------------------------------------------------------------------------------------

#: A public address: nothing is sent in these tests.
URL = "https://203.0.114.7/hook"


def test_a_webhook_is_set_read_listed_and_deleted(binding: Binding, local: Factory) -> None:
    task_id = str(local.pending())
    secret = {"token": "t0ken", "authentication": {"schemes": ["Bearer", "Basic"], "credentials": "s3cret"}}
    asked = {"taskId": task_id, "pushNotificationConfig": {"id": "one", "url": URL, **secret}}
    made = binding.call("tasks/pushNotificationConfig/set", asked)
    assert (made["taskId"], made["pushNotificationConfig"]["id"]) == (task_id, "one")
    assert (made["pushNotificationConfig"]["url"], PushConfig.objects.get().scheme) == (URL, "Bearer")
    named = {"id": task_id, "pushNotificationConfigId": "one"}
    assert binding.call("tasks/pushNotificationConfig/get", named) == made
    assert binding.call("tasks/pushNotificationConfig/list", {"id": task_id}) == [made]
    assert not binding.call("tasks/pushNotificationConfig/delete", named)
    assert binding.call("tasks/pushNotificationConfig/list", {"id": task_id}) == []
    refuses(binding, "TaskNotFoundError", "tasks/pushNotificationConfig/get", named)


def test_the_webhook_of_a_task_need_not_be_named(doors: Doors, local: Factory) -> None:
    """As 0.2 asks, where a task has one."""
    binding, task_id = BINDINGS["jsonrpc"](doors), str(local.pending())
    get = "tasks/pushNotificationConfig/get"
    refuses(binding, "TaskNotFoundError", get, {"id": task_id})
    made = binding.call("tasks/pushNotificationConfig/set", {"taskId": task_id, "pushNotificationConfig": {"url": URL}})
    assert binding.call(get, {"id": task_id}) == made


@pytest.mark.parametrize("method", ["message/send", "message/stream"])
def test_a_message_may_bring_its_webhook(binding: Binding, local: Factory, doors: Doors, method: str) -> None:
    config = {"pushNotificationConfig": {"url": URL}}
    said = {"message": message(), "configuration": {**config, "blocking": False}}
    task_id = binding.call("message/send", said)["id"]
    assert str(PushConfig.objects.get().task_id) == task_id
    config["pushNotificationConfig"]["url"] = "http://127.0.0.1/"
    with nothing_left():
        error = refuses(binding, "InvalidParamsError", method, {"message": message(), "configuration": config})
    name = "pushNotificationConfig" if binding.name == "jsonrpc" else "pushNotification"
    assert error.message.startswith(f"configuration.{name}.url: ")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        *[(value, "pushNotificationConfig") for value in each(None, 5, [])],
        ({}, "pushNotificationConfig.url"),
        ({"url": "ftp://example.org"}, "pushNotificationConfig.url"),
        ({"url": URL, "authentication": 5}, "pushNotificationConfig.authentication"),
        ({"url": URL, "authentication": {"schemes": [5]}}, "pushNotificationConfig.authentication.schemes"),
        ({"url": URL, "authentication": {"schemes": [""]}}, "pushNotificationConfig.authentication.schemes[0]"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_by_the_field(
    doors: Doors, local: Factory, config: Any, field: str
) -> None:
    params = {"taskId": str(local.pending()), "pushNotificationConfig": config}
    error = refuses(BINDINGS["jsonrpc"](doors), "InvalidParamsError", "tasks/pushNotificationConfig/set", params)
    assert error.fields == {field}


@pytest.mark.parametrize("whole", [True, False])
def test_the_body_of_a_webhook_is_the_request_or_its_config(doors: Doors, local: Factory, whole: bool) -> None:
    """The SDK's client sends the one, 0.3's proto says the other."""
    path, config = f"/v1/tasks/{local.pending()}/pushNotificationConfigs", {"push_notification_config": {"url": URL}}
    reply = doors.send("POST", path, json={"config": config, "config_id": "one"} if whole else config)
    assert reply.json()["pushNotificationConfig"]["url"] == URL
    assert not whole or reply.json()["name"].endswith("/pushNotificationConfigs/one")


# Who may -------------------------------------------------------------------------------------------------------------


def test_a_method_needs_the_scope_of_its_operation(binding: Binding, local: Factory, settings: Any) -> None:
    settings.A2A_OPEN_MODE = False
    keys = {scope: ApiKey.issue(local.owner, scopes=(scope,))[1] for scope in ("tasks:read", "tasks:write")}
    task = {"id": str(local.pending())}
    for method, params, scope in (
        ("tasks/get", task, "tasks:read"),
        ("tasks/pushNotificationConfig/list", task, "tasks:read"),
        ("message/send", {"message": message(), **AT_ONCE}, "tasks:write"),
        ("tasks/cancel", task, "tasks:write"),
    ):
        for held, key in keys.items():
            if held == scope:
                binding.call(method, params, authorization=f"Bearer {key}")
            else:
                with pytest.raises(Denied):
                    binding.call(method, params, authorization=f"Bearer {key}")
        with pytest.raises(Denied):
            binding.call(method, params)


def test_the_extended_card_is_one_of_0_3(
    doors: Doors, local: Factory, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP+JSON as over JSON-RPC, which is how the SDK's client reads it there; over gRPC as its proto has it."""
    settings.A2A_OPEN_MODE, settings.A2A_DEFAULT_AGENT = False, "lab"
    monkeypatch.setattr(agents, "_registry", dict(agents.registered()))
    burns = Skill(id="burn", name="Burn", description="Burns.")
    agents.agent("lab", lane="io", description="A laboratory.", extended_skills=(burns,))(lambda ctx: None)
    key = {"authorization": f"Bearer {ApiKey.issue(local.owner)[1]}"}

    async def ask(channel: grpc.aio.Channel) -> Any:
        stub: Any = a2a_v0_3_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        return await stub.GetAgentCard(pb2.GetAgentCardRequest(), metadata=tuple(key.items()))

    method = "agent/getAuthenticatedExtendedCard"
    cards = [
        doors.call(method, {}, agent="lab", headers={"a2a-version": "", **key})["result"],
        doors.send("GET", "/a2a/lab/v1/card", headers=key).json(),
        FromProto.agent_card(doors.ask(lambda _: over_grpc(ask))).model_dump(mode="json", by_alias=True),
    ]
    for card in map(types.AgentCard.model_validate, cards):
        assert [skill.id for skill in card.skills if skill.id == "burn"] == ["burn"]
        assert (card.url.endswith("/a2a/lab/"), card.preferred_transport) == (True, "JSONRPC")
    refused = doors.call(method, {}, agent="echo", headers={"a2a-version": "", **key})
    assert refused["error"]["code"] == -32004


def test_an_extension_that_is_required_is_an_invalid_request_without_it(
    doors: Doors, local: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.3 has no error for it."""
    monkeypatch.setattr(agents, "_registry", dict(agents.registered()))
    required = agents.Extension(uri="urn:x", description="X.", required=True)
    agents.agent("lab", lane="io", description="A laboratory.", extensions=(required,))(lambda ctx: None)
    said = {"message": message(), **AT_ONCE}
    error = doors.call("message/send", said, agent="lab", headers={"a2a-version": ""})["error"]
    assert (error["code"], "urn:x" in error["message"]) == (-32600, True)
    headers = {"a2a-version": "", "x-a2a-extensions": "urn:x"}
    assert doors.call("message/send", said, agent="lab", headers=headers)["result"]["kind"] == "task"


def test_a_limit_is_429_in_0_3_too(doors: Doors, local: Factory) -> None:
    Client.objects.filter(id=local.owner.id).update(max_queued=0)
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message(), **AT_ONCE}}
    reply = doors.send("POST", "/a2a/echo/", json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], reply.headers["retry-after"]) == (429, -32029, "5")
    assert (error["data"]["errors"][0]["field"], error["data"]["retry_after_s"]) == ("max_queued", 5)


@pytest.mark.parametrize("name", ["A2A-Extensions", "X-A2A-Extensions"])
def test_an_extension_that_is_asked_for_is_named_in_the_answer(doors: Doors, local: Factory, name: str) -> None:
    for path in ("/v1/tasks/", "/a2a/echo/v1/tasks/"):
        reply = doors.send("GET", f"{path}{local.pending()}", headers={name: EXTENSION})
        assert reply.headers["x-a2a-extensions"] == EXTENSION


# JSON-RPC only -------------------------------------------------------------------------------------------------------


def test_a_method_belongs_to_its_version(doors: Doors, local: Factory) -> None:
    """A2A 1.0, section 3.6.2."""
    for version, method, code in (
        ("1.0", "message/send", -32601),
        ("0.3", "SendMessage", -32009),
        ("", "SendMessage", -32009),
        ("0.3", "nothing/there", -32601),
        ("0.3.0", "tasks/get", -32602),
        ("0.2", "tasks/get", -32009),
    ):
        assert doors.call(method, {}, headers={"a2a-version": version})["error"]["code"] == code


def test_a_message_of_0_3_is_the_message_of_1_0(doors: Doors, local: Factory) -> None:
    said = message()
    old = doors.call("message/send", {"message": said, **AT_ONCE}, headers={"a2a-version": "0.3"})["result"]
    core = {"messageId": said["messageId"], "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    new = doors.call("SendMessage", {"message": core, "configuration": {"returnImmediately": True}})["result"]["task"]
    assert old["id"] == new["id"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *[({"role": value}, "message.role") for value in each("ROLE_USER", "", 1, [], True)],
        *[({"kind": value}, "message.kind") for value in each("task", "", 1, {})],
        *[({"parts": value}, "message.parts") for value in each("x", {}, 5, None, ...)],
        *[({"parts": [value]}, "message.parts[0]") for value in each("x", 5, None, [])],
        *[
            ({"parts": [value]}, "message.parts[0].kind")
            for value in each({}, {"kind": "x"}, {"kind": [], "text": "x"}, {"text": "x", "data": {}})
        ],
        *[({"parts": [{"kind": "text", "text": value}]}, "message.parts[0].text") for value in each(None, 5, {})],
        *[({"parts": [{"kind": "data", "data": value}]}, "message.parts[0].data") for value in each(None, 5, [], "x")],
        *[
            ({"parts": [{"kind": "file", "file": value}]}, "message.parts[0].file")
            for value in each(None, 5, [], {}, {"bytes": "QQ==", "uri": "x"})
        ],
        *[
            ({"parts": [{"kind": "file", "file": {"bytes": value}}]}, "message.parts[0].file.bytes")
            for value in each("!", "QQ=", 5, {})
        ],
        *[
            (
                {"parts": [{"kind": "file", "file": {"bytes": "QQ==", "mimeType": value}}]},
                "message.parts[0].file.mimeType",
            )
            for value in each(5, {}, "a\x00")
        ],
    ],
)
def test_a_part_that_is_none_is_refused_by_0_3s_name_of_the_field(
    doors: Doors, local: Factory, changes: dict[str, Any], field: str
) -> None:
    with nothing_left():
        params = {"message": message(**changes)}
        error = refuses(BINDINGS["jsonrpc"](doors), "InvalidParamsError", "message/send", params)
    assert error.fields == {field}


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        *[(value, "configuration") for value in each("x", 5, [], True)],
        *[({"blocking": value}, "configuration.blocking") for value in each("no", 0, {})],
        *[({"historyLength": value}, "configuration.historyLength") for value in each(-1, "x", 1.5, {}, 2**31)],
        *[({"acceptedOutputModes": value}, "configuration.acceptedOutputModes") for value in each("x", 5)],
        ({"acceptedOutputModes": ["x", 5]}, "configuration.acceptedOutputModes[1]"),
        *[({"pushNotificationConfig": value}, "configuration.pushNotificationConfig") for value in each("x", 5, [])],
        (
            {"pushNotificationConfig": {"url": "https://example.org", "authentication": {"schemes": "Bearer"}}},
            "configuration.pushNotificationConfig.authentication.schemes",
        ),
    ],
)
def test_a_configuration_of_wrong_types_is_named(doors: Doors, local: Factory, configuration: Any, field: str) -> None:
    params = {"message": message(), "configuration": configuration}
    with nothing_left():
        error = refuses(BINDINGS["jsonrpc"](doors), "InvalidParamsError", "message/send", params)
    assert error.fields == {field}


def test_a_task_that_is_referred_to_is_one_of_the_clients(doors: Doors, local: Factory) -> None:
    """0.3's proto has no references."""
    said = {"message": message(referenceTaskIds=[str(local.pending()), "x"])}
    error = refuses(BINDINGS["jsonrpc"](doors), "InvalidParamsError", "message/send", said)
    assert error.fields == {"message.referenceTaskIds[1]"}


def test_nulls_are_fields_that_were_left_out(doors: Doors, local: Factory) -> None:
    """As clients write them that dump their models whole."""
    said = message(contextId=None, taskId=None, metadata=None, extensions=None, referenceTaskIds=None)
    said["parts"][0]["metadata"] = None
    empty = dict.fromkeys(("acceptedOutputModes", "historyLength", "pushNotificationConfig"))
    params = {"message": said, "configuration": {"blocking": False, **empty}, "metadata": None}
    task = BINDINGS["jsonrpc"](doors).call("message/send", params)
    assert task["status"]["state"] == "submitted"


# HTTP+JSON and gRPC --------------------------------------------------------------------------------------------------


def body(**changes: Any) -> dict[str, Any]:
    """A request in the JSON of 0.3's protobuf, with changes to its message; what is changed to ``...`` is left out."""
    whole = {"messageId": str(uuid4()), "role": "ROLE_USER", "content": [{"text": "hello"}], **changes}
    return {"message": {name: value for name, value in whole.items() if value is not ...}}


@pytest.mark.parametrize("path", ["/v1/", "/a2a/echo/v1/"])
@pytest.mark.parametrize("version", [{}, {"a2a-version": "0.3"}])
def test_the_paths_of_0_3_stand_below_every_address(
    doors: Doors, local: Factory, path: str, version: dict[str, str]
) -> None:
    configuration = {"configuration": {"blocking": False}}
    reply = doors.send("POST", f"{path}message:send", json={**body(), **configuration}, headers=version)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    task = reply.json()["task"]
    assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
    for names in ("historyLength", "history_length"):
        reply = doors.send("GET", f"{path}tasks/{task['id']}?{names}=1", headers=version)
        assert reply.json()["history"][0]["content"] == [{"text": "hello"}]
    doors.once_followed(UUID(task["id"]), lambda: engine.run(engine.request_cancel, [UUID(task["id"])], by="a test"))
    assert "TASK_STATE_CANCELLED" in doors.send("GET", f"{path}tasks/{task['id']}:subscribe", headers=version).text


@pytest.mark.parametrize("version", ["1.0", "0.2", "2.0"])
def test_the_paths_of_0_3_are_of_0_3(doors: Doors, local: Factory, version: str) -> None:
    with nothing_left():
        reply = doors.send("POST", "/a2a/echo/v1/message:send", json=body(), headers={"a2a-version": version})
    assert (reply.status_code, reply.json()["type"]) == (400, "VersionNotSupportedError")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *[({"role": value}, "message.role") for value in each("user", "ROLE_AGENT", "ROLE_UNSPECIFIED", ..., 7)],
        *[({"content": value}, "message.content") for value in each(..., [], "x", 5)],
        *[({"content": [value]}, "message.content[0]") for value in each({}, {"kind": "text"}, {"metadata": {}})],
        *[
            ({"content": [{"file": {"fileWithBytes": value}}]}, "message.content[0].file.fileWithBytes")
            for value in each("!", "QQ=", "QQQQQ")
        ],
        ({"content": [{"file": {}}]}, "message.content[0].file"),
        ({"messageId": 5}, "message.messageId"),
    ],
)
def test_a_body_that_is_none_is_refused_by_its_protos_names(
    doors: Doors, local: Factory, changes: dict[str, Any], field: str
) -> None:
    with nothing_left():
        reply = doors.send("POST", "/v1/message:send", json=body(**changes))
    assert (reply.status_code, reply.json()["type"]) == (400, "InvalidParamsError")
    assert [item["field"] for item in reply.json()["data"]["errors"]] == [field]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"5", b"{", b"\xff", b'{"message": 5}', b'{"configuration": 5}'])
def test_a_body_that_is_nothing_is_refused(doors: Doors, local: Factory, data: bytes) -> None:
    with nothing_left():
        reply = doors.send("POST", "/v1/message:send", content=data, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["message"]


@pytest.mark.parametrize("length", ["x", "1.5", "-1", "²", "9" * 30])
def test_a_history_length_that_is_none_is_refused(doors: Doors, local: Factory, length: str) -> None:
    reply = doors.send("GET", f"/v1/tasks/{local.pending()}", params={"historyLength": length})
    assert reply.status_code == 400
    assert reply.json()["data"]["errors"][0]["field"].endswith("historyLength")


def test_a_configuration_of_the_proto_that_does_not_say_blocking_says_false(doors: Doors, local: Factory) -> None:
    """A bool of proto3 is never unset; a whole configuration that is left out says nothing, and blocks."""
    asked = {**body(), "configuration": {"acceptedOutputModes": ["text/plain"]}}
    assert doors.send("POST", "/v1/message:send", json=asked).json()["task"]["status"]["state"].endswith("SUBMITTED")


@pytest.mark.parametrize("content", [b"\x00\xff\x10 no base64", b"QQ=="])
def test_the_bytes_of_a_file_are_base64_text_or_else_the_bytes(doors: Doors, local: Factory, content: bytes) -> None:
    """The SDK's clients of 0.3 send the text, the proto means the bytes."""
    part = {"file": {"fileWithBytes": b64encode(content).decode(), "mimeType": "text/plain"}}
    task = doors.send("POST", "/v1/message:send", json={**body(content=[part]), "configuration": {}}).json()["task"]
    (said,) = Task.objects.get(id=task["id"]).messages
    assert said.parts[0].raw == (b"A" if content == b"QQ==" else content)


def test_a_name_over_grpc_is_that_of_a_task(doors: Doors, local: Factory) -> None:
    async def ask(channel: grpc.aio.Channel) -> Any:
        stub: Any = a2a_v0_3_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        return await stub.GetTask(pb2.GetTaskRequest(name=str(uuid4())))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        doors.ask(lambda _: over_grpc(ask))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "InvalidParamsError: name: must be of the form tasks/*"
