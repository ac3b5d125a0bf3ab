"""Rows as A2A objects, and JSON as A2A's types."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from a2a.types import GetTaskRequest, Message, Part, SendMessageConfiguration, StreamResponse, TaskState
from a2a.utils.errors import InvalidParamsError
from google.protobuf.json_format import MessageToDict, ParseDict

from tasks_app.a2a import extension, parse, wire
from tasks_app.nesting import DEPTH_MAX
from tasks_app.reads import ArtifactView, EventRecord, PartRecord, TaskRecord
from tasks_app.status import Priority, TaskStatus
from tests.protocol.doors import message, nested

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def record(**fields: Any) -> TaskRecord:
    whole: dict[str, Any] = {
        "id": uuid4(),
        "context_id": "c",
        "agent": "echo",
        "priority": Priority.HIGH,
        "status": TaskStatus.RUNNING,
        "progress": 0.5,
        "attempt": 1,
        "generation": 4,
        "status_message": None,
        "error": None,
        "status_at": NOW,
        "metadata": {},
        "messages": tuple(Message(message_id=str(n)).SerializeToString() for n in range(3)),
    }
    return TaskRecord(**{**whole, **fields})


def event(**fields: Any) -> EventRecord:
    whole: dict[str, Any] = {
        "task_id": uuid4(),
        "generation": 2,
        "kind": "status",
        "status": TaskStatus.RUNNING,
        "progress": 0.0,
        "payload": None,
        "error": None,
        "attempt": 1,
        "created_at": NOW,
    }
    return EventRecord(**{**whole, **fields})


@pytest.mark.parametrize("status", list(TaskStatus))
def test_every_state_has_a_name_on_the_wire(status: TaskStatus) -> None:
    assert wire.state(status, started=False) != TaskState.TASK_STATE_UNSPECIFIED


def test_a_task_that_waits_for_another_attempt_is_still_working() -> None:
    pending = record(status=TaskStatus.PENDING, attempt=0)
    assert wire.task(pending).status.state == TaskState.TASK_STATE_SUBMITTED
    assert wire.task(replace(pending, attempt=1)).status.state == TaskState.TASK_STATE_WORKING


@pytest.mark.parametrize(
    ("length", "ids"),
    [(None, "012"), (0, ""), (1, "2"), (2, "12"), (3, "012"), (4, "012"), (5, "012"), (100, "012"), (2**31 - 1, "012")],
)
def test_the_history_is_the_newest_messages_and_never_fewer_than_there_are(length: int | None, ids: str) -> None:
    """A2A 1.0, section 3.2.4."""
    assert "".join(said.message_id for said in wire.task(record(), history_length=length).history) == ids


def test_the_reply_of_a_task_is_its_last_message_and_tells_which_task_it_was() -> None:
    said = Message(message_id="m", task_id="t", context_id="c", parts=[Part(text="done")], metadata={"a": 1})
    completed = record(status=TaskStatus.COMPLETED, status_message=said.SerializeToString())
    made = wire.reply(completed)
    assert made is not None
    assert (made.message_id, made.task_id, made.context_id, made.parts[0].text) == ("m", "", "c", "done")
    assert MessageToDict(made.metadata) == {"a": 1.0, extension.URI: {"task_id": str(completed.id)}}


@pytest.mark.parametrize("status", sorted(set(TaskStatus) - {TaskStatus.COMPLETED}))
def test_a_task_that_has_not_completed_has_no_reply(status: TaskStatus) -> None:
    said = Message(message_id="m", parts=[Part(text="not yet")]).SerializeToString()
    assert wire.reply(record(status=status, status_message=said)) is None


def test_the_clients_metadata_comes_back_beside_ours() -> None:
    task = wire.as_dict(wire.task(record(metadata={"study": {"ids": [1, None, "x", True]}, "generation": "theirs"})))
    assert task["metadata"]["study"] == {"ids": [1.0, None, "x", True]}
    assert task["metadata"]["generation"] == 4
    assert task["metadata"][extension.URI] == {"priority": "high", "progress": 0.5, "attempt": 1}


def test_an_error_is_said_where_the_agent_said_nothing() -> None:
    failed = record(status=TaskStatus.FAILED, error={"code": "timeout", "message": "too long"})
    assert [part.text for part in wire.task(failed).status.message.parts] == ["too long"]
    said = Message(message_id="m", parts=[Part(text="sorry")]).SerializeToString()
    assert [part.text for part in wire.task(replace(failed, status_message=said)).status.message.parts] == ["sorry"]


@pytest.mark.parametrize(
    ("kind", "content", "shown"),
    [
        ("text", "é\x00".encode(), {"text": "é\x00"}),
        ("text", b"", {"text": ""}),
        ("raw", b"\x00\xff", {"raw": "AP8="}),
        ("raw", b"", {"raw": ""}),
        ("data", b'{"a": [1, null]}', {"data": {"a": [1.0, None]}}),
        ("data", b"null", {"data": None}),
        ("data", b"[]", {"data": []}),
    ],
)
def test_a_part_is_shown_by_its_kind(kind: str, content: bytes, shown: dict[str, Any]) -> None:
    part = PartRecord(kind=kind, media_type="a/b", filename="", content=content)
    assert wire.as_dict(wire.part(part)) == {**shown, "mediaType": "a/b"}
    view = ArtifactView(artifact_id="a", name="n", description="", metadata={}, parts=(part, part))
    assert wire.as_dict(wire.artifact(view))["parts"] == [{**shown, "mediaType": "a/b"}] * 2


def test_an_event_carries_its_generation_and_the_state_it_left() -> None:
    update = wire.event(event(status=TaskStatus.COMPLETED, generation=7, progress=1.0), context_id="c").status_update
    assert (update.status.state, update.context_id) == (TaskState.TASK_STATE_COMPLETED, "c")
    assert dict(update.metadata.items()) == {"generation": 7.0, "progress": 1.0, "attempt": 1.0}


def test_a_clients_further_message_is_no_status_message_of_the_agents() -> None:
    said = Message(message_id="m", parts=[Part(text="and then?")]).SerializeToString()
    update = wire.event(event(kind="message", payload=said, attempt=0, generation=5), context_id="c").status_update
    assert (update.status.state, update.status.HasField("message")) == (TaskState.TASK_STATE_WORKING, False)
    assert update.metadata["generation"] == 5.0
    assert (
        wire.event(event(kind="message", payload=said), context_id="c").status_update.status.message.message_id == "m"
    )


# From JSON -----------------------------------------------------------------------------------------------------------


def test_fields_that_are_not_known_are_ignored_outside_of_our_own() -> None:
    """A2A 1.0, section 5.7."""
    assert parse.message(message(kind="message", future={"a": 1}), path="message").message_id


@pytest.mark.parametrize("raw", ["", "QQ", "QQ==", "QUI", "QUI=", "QUJD", "-_-_", "+/+/"])
def test_base64_may_leave_out_its_padding_and_be_of_either_alphabet(raw: str) -> None:
    assert parse.message(message(parts=[{"raw": raw}]), path="message").parts[0].WhichOneof("content") == "raw"


def test_a_name_may_be_written_in_either_case() -> None:
    both = [{"mediaType": "a/b", "text": "x"}, {"media_type": "a/b", "text": "x"}]
    parts = parse.message(message(parts=both), path="message").parts
    assert [part.media_type for part in parts] == ["a/b", "a/b"]


def test_the_deepest_body_that_is_let_in_can_be_read_again() -> None:
    for data in (message(metadata=nested(DEPTH_MAX - 2)), message(parts=[{"data": nested(DEPTH_MAX - 5)}])):
        parse.check_depth({"params": {"message": data}} if "metadata" not in data else {"message": data})
        stored = parse.message(data, path="message").SerializeToString()
        assert wire.as_dict(Message.FromString(stored))["messageId"] == data["messageId"]


@pytest.mark.parametrize("levels", [DEPTH_MAX + 1, 1_000])
def test_a_body_that_is_deeper_is_refused(levels: int) -> None:
    parse.check_depth(nested(DEPTH_MAX))
    lists: list[Any] = []
    for _ in range(levels - 1):
        lists = [lists, 1]
    for deep in (nested(levels), lists):
        with pytest.raises(InvalidParamsError, match="nested"):
            parse.check_depth(deep)


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_what_is_no_object_is_named_by_its_path(data: Any) -> None:
    with pytest.raises(InvalidParamsError, match="params: must be an object"):
        parse.proto(data, GetTaskRequest(), path="params")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-31T12:00:00Z", NOW),
        ("2026-01-31T13:00:00+01:00", NOW),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2999-12-31T23:59:59-23:59", datetime(3000, 1, 1, 23, 58, 59, tzinfo=UTC)),
    ],
)
def test_an_earliest_start_is_an_instant_in_utc(text: str, instant: datetime) -> None:
    found = extension.parse({"run_after": text}, path="").run_after
    assert found == instant
    assert found is not None
    assert found.tzinfo is UTC


def test_options_that_are_null_are_the_defaults() -> None:
    assert extension.parse(dict.fromkeys(extension.FIELDS), path="") == extension.TaskOptions()


# What is written out by hand, because every submit does it ------------------------------------------------------------

SAID: list[dict[str, Any]] = [
    {},
    {"contextId": "c", "taskId": "t"},
    {"contextId": "", "parts": [{"text": ""}]},
    {"parts": [{"text": "é\U0001f9e0"}, {"text": "two"}]},
    {"parts": [{"text": "x", "mediaType": "text/plain"}]},
    {"parts": [{"text": "x", "metadata": {"a": 1}}]},
    {"parts": [{"raw": "QQ=="}]},
    {"parts": [{"data": {"a": [1, None]}}]},
    {"metadata": {"a": 1}},
    {"extensions": ["urn:x"], "referenceTaskIds": ["t"]},
    {"unknown": 1},
    {"message_id": "m", "messageId": ...},
]


@pytest.mark.parametrize("changes", SAID)
def test_a_message_is_read_and_shown_as_protobuf_would(changes: dict[str, Any]) -> None:
    said = message(**changes)
    read = parse.message(said, path="message")
    assert read == ParseDict(said, Message(), ignore_unknown_fields=True)
    submitted = wire.Submitted(task_id=uuid4(), context_id="c", at=NOW, metadata={"a": 1}, message=read)
    assert submitted.as_dict() == MessageToDict(StreamResponse(task=submitted.task()))


@pytest.mark.parametrize("text", ["", "m" * 300, "a\x00"])
def test_an_id_that_cannot_be_is_named_though_the_message_is_plain(text: str) -> None:
    for name in ("messageId", "contextId"):
        if text or name == "messageId":
            with pytest.raises(InvalidParamsError, match=rf"message\.{name}"):
                parse.message(message(**{name: text}), path="message")


@pytest.mark.parametrize(
    "said", [None, {}, {"returnImmediately": True}, {"returnImmediately": False, "historyLength": 2}]
)
def test_a_configuration_is_read_as_protobuf_would(said: dict[str, Any] | None) -> None:
    expected = ParseDict(said or {}, SendMessageConfiguration())
    assert parse.configuration(said, path="configuration") == expected
