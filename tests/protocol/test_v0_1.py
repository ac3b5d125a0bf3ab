"""0.1's methods (A2A 0.1, sections 6 and 7): clients that choose the ids of their tasks, and say no version."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from a2a.types import Artifact, Message, Part, Role, TaskArtifactUpdateEvent

from tasks_app import engine
from tasks_app.engine import ArtifactRecord, Chunk, Finish, Note
from tasks_app.models import ApiKey, Client, InboxMessage, Outcome, Task
from tasks_app.models.client import LOCAL_CLIENT
from tasks_app.status import Lane, Priority, TaskStatus
from tests.factory import Factory, admit
from tests.protocol.bindings import sse_events
from tests.protocol.doors import EXTENSION, Doors, each, nothing_left
from workers.testing import one_process

ASKING = Finish(status=TaskStatus.INPUT_REQUIRED, outcome=Outcome.INTERRUPTED, wait_s=60)
COMPLETED = Finish(status=TaskStatus.COMPLETED, outcome=Outcome.COMPLETED)
STATES = {
    TaskStatus.PENDING: "submitted",
    TaskStatus.RUNNING: "working",
    TaskStatus.INPUT_REQUIRED: "input-required",
    TaskStatus.AUTH_REQUIRED: "input-required",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "canceled",
    TaskStatus.REJECTED: "failed",
}


@pytest.fixture
def local(transactional_db: None, settings: Any) -> Factory:
    """Of the client that requests without a key belong to. Nobody works here, so that nothing waits for it."""
    settings.A2A_BLOCKING_WAIT_S = 0.0
    return Factory(Client.objects.get_or_create(name=LOCAL_CLIENT)[0])


class Caller:
    """A client of 0.1: its JSON-RPC has neither a version nor ids of messages."""

    def __init__(self, doors: Doors, **headers: str) -> None:
        self._doors = doors
        self._headers = {"a2a-version": "", **headers}

    def answer(self, method: str, agent: str = "echo", **params: Any) -> dict[str, Any]:
        return self._doors.call(method, params, agent=agent, headers=self._headers)

    def call(self, method: str, agent: str = "echo", **params: Any) -> dict[str, Any]:
        return dict(self.answer(method, agent, **params)["result"])

    def refused(self, method: str, agent: str = "echo", **params: Any) -> tuple[int, str]:
        """The code of the error, and its text."""
        error = self.answer(method, agent, **params)["error"]
        return error["code"], error["message"]

    def stream(self, method: str, agent: str = "echo", **params: Any) -> list[dict[str, Any]]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = self._doors.send("POST", f"/a2a/{agent}/", json=body, headers=self._headers)
        return [event.data["result"] for event in sse_events(reply.text)]


@pytest.fixture
def client(doors: Doors) -> Caller:
    return Caller(doors)


def message(text: str = "hello", **changes: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "text", "text": text}], **changes}


def made(client: Caller, alias: str, text: str = "hello", **params: Any) -> UUID:
    """The server's id of a task that is made under this one."""
    client.call("tasks/send", id=alias, message=message(text), **params)
    return Task.objects.order_by("-id").values_list("id", flat=True)[0]


def admitted(task_id: UUID) -> UUID:
    assert task_id in {hint.task_id for hint in admit({Lane.IO: 10, Lane.CPU: 10})}
    return task_id


def asks(local: Factory, task_id: UUID) -> None:
    """Lets the task run until it asks its client."""
    local.write(local.claim(admitted(task_id)), finish=ASKING)


# tasks/send ----------------------------------------------------------------------------------------------------------


def test_a_task_is_done_under_the_clients_own_id(client: Caller, transactional_db: None) -> None:
    """Section 7.1: the current or final state."""
    with one_process():
        task = client.call("tasks/send", id="mine", sessionId="s", message=message(), historyLength=5)
    assert (task["id"], task["sessionId"], task["status"]["state"]) == ("mine", "s", "completed")
    assert task["artifacts"][0]["parts"] == [{"type": "text", "text": "hello"}]
    assert task["artifacts"][0]["index"] == 0
    assert task["history"] == [message()]
    assert str(Task.objects.get().id) != "mine"


def test_what_0_1_says_of_a_task_arrives(client: Caller, local: Factory) -> None:
    parts = [
        {"type": "text", "text": "hello", "metadata": None},
        {"type": "file", "file": {"bytes": "AP8=", "uri": None, "mimeType": "text/plain", "name": "a"}},
        {"type": "data", "data": {"n": [1, None]}},
    ]
    options = {EXTENSION: {"priority": "high", "parameters": {"seconds": 1, "steps": 2}}}
    said = message(parts=parts[:1] + parts[2:], metadata=options)
    modes = ["text", "data", "image/png"]
    params = {"acceptedOutputModes": modes, "metadata": {"study": "x"}, "pushNotification": None}
    made(client, "a")
    client.call("tasks/send", "sleep", id="b", message=said, historyLength=None, **params)
    task = Task.objects.get(agent="sleep")
    assert (task.priority, task.parameters, task.metadata) == (
        Priority.HIGH,
        {"seconds": 1, "steps": 2},
        {"study": "x"},
    )
    assert task.request.accepted_output_modes == ["text/plain", "application/json", "image/png"]
    client.call("tasks/send", id="c", message=message(parts=parts))
    (said_then,) = Task.objects.order_by("-id")[0].messages
    assert (said_then.parts[1].raw, said_then.parts[1].filename) == (b"\x00\xff", "a")


@pytest.mark.parametrize("address", ["/", "/a2a/echo/"])
def test_a_method_has_an_address_of_its_own_too(doors: Doors, local: Factory, address: str) -> None:
    """python-a2a's clients post to no other."""

    def answer(method: str, **params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": "mine", **params}}
        reply = doors.send("POST", f"{address}{method}", json=body)
        return dict(reply.json()["result"])

    assert answer("tasks/send", message=message())["id"] == "mine"
    assert answer("tasks/get")["status"]["state"] == "submitted"
    assert answer("tasks/cancel")["status"]["state"] == "canceled"


def test_the_same_request_again_is_the_same_task(client: Caller, local: Factory) -> None:
    """Also when its client, which was given no session, has made a new one for the repeat."""
    made(client, "mine", sessionId="one")
    with nothing_left():
        for session in ("one", "another", None):
            assert client.call("tasks/send", id="mine", sessionId=session, message=message())["sessionId"] == "one"
        text = client.refused("tasks/send", id="mine", message=message(metadata={EXTENSION: {"priority": "low"}}))
    assert text == (-32602, "id: names a task that another request made")


def test_requests_at_the_same_time_make_one_task(doors: Doors, local: Factory) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/send", "params": {"id": "mine", "message": message()}}
    replies = doors.together([("POST", "/a2a/echo/", {"json": body})] * 10)
    assert {reply.json()["result"]["id"] for reply in replies} == {"mine"}
    assert Task.objects.count() == 1


def test_an_id_is_its_clients_and_its_agents_alone(doors: Doors, local: Factory, settings: Any) -> None:
    settings.A2A_OPEN_MODE = False
    callers = []
    for name in ("one", "two"):
        key = ApiKey.issue(Client.objects.create(name=name))[1]
        callers.append(Caller(doors, authorization=f"Bearer {key}"))
    made(callers[0], "mine")
    assert callers[1].refused("tasks/get", id="mine")[0] == -32001
    assert callers[0].refused("tasks/get", "sleep", id="mine")[0] == -32001
    assert made(callers[1], "mine") != made(callers[0], "theirs")
    assert Task.objects.count() == 3
    assert callers[0].call("tasks/get", id="mine")["id"] == "mine"


# Turns ---------------------------------------------------------------------------------------------------------------


def test_a_message_to_a_task_that_asks_is_its_answer(client: Caller, local: Factory) -> None:
    """Section 7.1: «If existing, this message continues the task»."""
    task_id = made(client, "mine")
    asks(local, task_id)
    task = client.call("tasks/send", id="mine", sessionId="any", message=message("yes"), historyLength=9)
    assert (task["status"]["state"], [said["parts"][0]["text"] for said in task["history"]]) == (
        "working",
        ["hello", "yes"],
    )
    with nothing_left():
        client.call("tasks/send", id="mine", message=message("yes"))
    assert InboxMessage.objects.count() == 1


def test_the_same_words_answer_the_next_question_too(client: Caller, local: Factory) -> None:
    """Even those that the task began with."""
    task_id = made(client, "mine", "yes")
    for count in (1, 2, 3):
        asks(local, task_id)
        client.call("tasks/send", id="mine", message=message("yes"))
        client.call("tasks/send", id="mine", message=message("yes"))
        assert InboxMessage.objects.filter(task_id=task_id).count() == count
        assert Task.objects.get(id=task_id).status == TaskStatus.PENDING


def test_what_is_repeated_after_the_end_changes_nothing_and_what_is_new_is_refused(
    client: Caller, local: Factory
) -> None:
    task_id = made(client, "mine")
    asks(local, task_id)
    client.call("tasks/send", id="mine", message=message("yes"))
    local.write(local.claim(admitted(task_id)), finish=COMPLETED)
    with nothing_left():
        for text in ("hello", "yes"):
            task = client.call("tasks/send", id="mine", message=message(text))
            assert task["status"]["state"] == "completed"
        assert client.refused("tasks/send", id="mine", message=message("more"))[0] == -32004


# tasks/get, tasks/cancel ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", TaskStatus)
def test_every_state_has_its_name(client: Caller, local: Factory, status: TaskStatus) -> None:
    task_id = made(client, "mine")
    if status != TaskStatus.PENDING:
        claim = local.claim(admitted(task_id))
        if status != TaskStatus.RUNNING:
            outcome = {TaskStatus.INPUT_REQUIRED: Outcome.INTERRUPTED, TaskStatus.AUTH_REQUIRED: Outcome.INTERRUPTED}
            local.write(claim, finish=Finish(status=status, outcome=outcome.get(status, Outcome.COMPLETED), wait_s=60))
    assert client.call("tasks/get", id="mine")["status"]["state"] == STATES[status]


def test_a_task_is_read_by_either_id_and_answered_in_the_way_of_that_id(client: Caller, local: Factory) -> None:
    task_id = str(made(client, "mine", sessionId="s"))
    by_alias = client.call("tasks/get", id="mine", historyLength=1)
    assert (by_alias["id"], by_alias["sessionId"], by_alias["history"]) == ("mine", "s", [message()])
    by_id = client.call("tasks/get", id=task_id)
    assert (by_id["id"], by_id["contextId"], by_id["kind"]) == (task_id, "s", "task")


def test_history_comes_where_it_is_asked_for(client: Caller, local: Factory) -> None:
    """Section 7.3.1: of 0, null or nothing, none."""
    claim = local.claim(admitted(made(client, "mine")))
    said = Message(message_id="m", role=Role.ROLE_AGENT, parts=[Part(text="hm")])
    local.write(claim, Note(kind="message", message=said.SerializeToString()))
    for length, shown in {None: 0, 0: 0, 1: 1, 5: 2}.items():
        assert len(client.call("tasks/get", id="mine", historyLength=length)["history"]) == shown


def test_a_task_is_cancelled_by_the_clients_id(client: Caller, local: Factory) -> None:
    task_id = made(client, "mine")
    task = client.call("tasks/cancel", id="mine")
    assert (task["id"], task["status"]["state"]) == ("mine", "canceled")
    assert Task.objects.get(id=task_id).status == TaskStatus.CANCELLED
    assert client.refused("tasks/cancel", id="mine")[0] == -32002


@pytest.mark.parametrize("alias", ["theirs", "0199b3b4-0000-7000-8000-000000000000", "a\x00", "x" * 300])
def test_a_task_that_is_not_there_is_not_found(client: Caller, local: Factory, alias: str) -> None:
    for method in ("tasks/get", "tasks/cancel", "tasks/resubscribe"):
        assert client.refused(method, id=alias)[0] == -32001


# Streams -------------------------------------------------------------------------------------------------------------


def test_a_stream_tells_every_change_under_the_clients_id(client: Caller, transactional_db: None) -> None:
    """Section 7.2."""
    with one_process():
        events = client.stream("tasks/sendSubscribe", id="mine", message=message())
    assert {event["id"] for event in events} == {"mine"}
    states = [(event["status"]["state"], event["final"]) for event in events if "status" in event]
    assert states[0] == ("submitted", False)
    assert states[-1] == ("completed", True)
    assert [final for _, final in states].count(True) == 1
    (artifact,) = [event["artifact"] for event in events if "artifact" in event]
    assert (artifact["parts"], artifact["index"]) == ([{"type": "text", "text": "hello"}], 0)


def test_a_stream_numbers_artifacts_and_ends_where_the_task_asks(client: Caller, local: Factory, doors: Doors) -> None:
    task_id = made(client, "mine")
    claim = local.claim(admitted(task_id))
    local.write(claim, artifact("a"))
    doors.once_followed(task_id, lambda: local.write(claim, artifact("b"), artifact("a"), finish=ASKING))
    events = client.stream("tasks/resubscribe", id="mine")
    assert [event["artifact"]["index"] for event in events if "artifact" in event] == [1, 0]
    assert (events[-1]["status"]["state"], events[-1]["final"]) == ("input-required", True)


def artifact(name: str) -> ArtifactRecord:
    chunk = Chunk(kind="text", content=name.encode(), media_type="text/plain")
    event = TaskArtifactUpdateEvent(artifact=Artifact(artifact_id=name, name=name))
    return ArtifactRecord(artifact_id=name, name=name, chunks=(chunk,), event=event.SerializeToString())


def test_a_task_that_has_ended_is_resubscribed_to_once(client: Caller, local: Factory) -> None:
    task_id = made(client, "mine")
    engine.run(engine.request_cancel, [task_id], by="a test")
    (event,) = client.stream("tasks/resubscribe", id="mine")
    assert (event["id"], event["status"]["state"], event["final"]) == ("mine", "canceled", True)


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *[({"id": value}, "id") for value in each(None, "", 5, [], "a\x00", "x" * 201)],
        *[({"sessionId": value}, "sessionId") for value in each(5, [], "x" * 129, "a\x00")],
        *[({"message": value}, "message") for value in each(None, 5, [], "x")],
        *[({"message": message(role=value)}, "message.role") for value in each(None, "agent", 5, [])],
        *[({"message": message(parts=value)}, "message.parts") for value in each(None, [], 5, "x")],
        *[({"message": message(parts=[value])}, "message.parts[0].kind") for value in each({}, {"type": "x"})],
        ({"message": message(parts=[{"type": "file", "file": {"bytes": "!"}}])}, "message.parts[0].file.bytes"),
        ({"pushNotification": 5}, "pushNotification"),
        ({"historyLength": -1}, "configuration.historyLength"),
    ],
)
@pytest.mark.parametrize("method", ["tasks/send", "tasks/sendSubscribe"])
def test_a_request_that_is_none_is_refused_by_the_field(
    client: Caller, local: Factory, method: str, changes: dict[str, Any], field: str
) -> None:
    with nothing_left():
        code, text = client.refused(method, **{"id": str(uuid4()), "message": message(), **changes})
    assert code == -32602
    assert text.startswith(f"{field}: ")


def test_a_request_that_is_none_is_refused_of_a_task_that_is_there_too(client: Caller, local: Factory) -> None:
    made(client, "mine")
    with nothing_left():
        for said in each(None, {}, message(role="agent"), message(parts=[])):
            assert client.refused("tasks/send", id="mine", message=said)[0] == -32602


@pytest.mark.parametrize("version", ["1.0", "0.1"])
def test_its_methods_are_of_no_version_that_is_said(doors: Doors, local: Factory, version: str) -> None:
    code = {"1.0": -32601, "0.1": -32009}[version]
    params = {"id": "mine", "message": message()}
    assert doors.call("tasks/send", params, headers={"a2a-version": version})["error"]["code"] == code
