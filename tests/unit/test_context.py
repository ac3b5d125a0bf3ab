"""What a handler may say, and what is refused where it is said."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from a2a.types import Artifact, Message, Part, Role, TaskArtifactUpdateEvent

from tasks_app.a2a.extension import put_skill
from tasks_app.agents import AgentError, AuthRequired, Cancelled, InputRequired, Rejected, TurnEnd
from tasks_app.engine import ArtifactRecord, CheckpointRecord, Claim, Note, Record
from tests.protocol.doors import nested
from workers.context import Context, LeaseLost
from workers.scratch import Scratch


class Recorder:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lost = False
        self.signs = 0
        self.flushed = 0
        self.records: list[Record] = []

    def alive(self) -> None:
        self.signs += 1

    def add(self, record: Record) -> None:
        self.records.append(record)

    store = keep = add

    async def flush(self) -> None:
        self.flushed = len(self.records)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def ctx(recorder: Recorder, tmp_path: Path) -> Context:
    parts = [Part(text="one"), Part(raw=b"x", media_type="image/png"), Part(text="two")]
    message = Message(message_id="m", role=Role.ROLE_USER, parts=parts)
    fields: dict[str, Any] = dict.fromkeys(Claim.__dataclass_fields__)
    fields |= {"task_id": uuid4(), "context_id": "c", "attempt": 1, "message": message.SerializeToString()}
    fields |= {
        "parameters": {"a": 1},
        "metadata": {"b": 2},
        "checkpoints": {"page": 7},
        "turn": 1,
        "history": (),
        "kept": {},
    }
    return Context(Claim(**fields), recorder, Scratch(tmp_path / "scratch"))


def artifacts(recorder: Recorder) -> list[ArtifactRecord]:
    return [record for record in recorder.records if isinstance(record, ArtifactRecord)]


def test_a_handler_sees_what_the_client_sent(ctx: Context) -> None:
    assert (ctx.text, ctx.parameters, ctx.metadata, ctx.context_id) == ("one\ntwo", {"a": 1}, {"b": 2}, "c")
    assert [part.WhichOneof("content") for part in ctx.message.parts] == ["text", "raw", "text"]
    assert ctx.idempotency_key == f"{ctx.task_id}:1"
    assert ctx.skill == ""
    put_skill(ctx.message, "look")
    assert ctx.skill == "look"


def test_a_message_of_the_handlers_own_is_sent_as_the_tasks(ctx: Context, recorder: Recorder) -> None:
    own = Message(role=Role.ROLE_USER, task_id="other", parts=[Part(text="a"), Part(raw=b"b", media_type="image/png")])
    ctx.say(own)
    (note,) = recorder.records
    assert isinstance(note, Note)
    said = Message.FromString(note.message or b"")
    assert (said.role, said.task_id, said.context_id) == (Role.ROLE_AGENT, str(ctx.task_id), "c")
    assert list(said.parts) == list(own.parts)
    assert said.message_id
    assert (own.role, own.message_id) == (Role.ROLE_USER, "")


def test_a_message_without_a_part_gets_an_empty_text(ctx: Context, recorder: Recorder) -> None:
    """A2A 1.0, section 5.7: a message has at least one part."""
    ctx.say(Message(metadata={"a": 1}))
    (note,) = recorder.records
    assert isinstance(note, Note)
    said = Message.FromString(note.message or b"")
    assert [(part.WhichOneof("content"), part.text) for part in said.parts] == [("text", "")]
    assert dict(said.metadata) == {"a": 1}


@pytest.mark.parametrize("message", ["which?", Message(parts=[Part(text="which?")])])
def test_to_require_something_ends_the_turn(ctx: Context, recorder: Recorder, message: Any) -> None:
    with pytest.raises(InputRequired, match="which"):
        ctx.require_input(message)
    with pytest.raises(AuthRequired, match="which"):
        ctx.require_auth(message)
    recorder.lost = True
    with pytest.raises(LeaseLost):
        ctx.require_input(message)


@pytest.mark.parametrize("end", [InputRequired, AuthRequired, Rejected, Cancelled])
def test_the_end_of_a_turn_crosses_to_the_workers_parent_as_its_text(end: type[TurnEnd]) -> None:
    for message, text in (("a", "a"), (Message(parts=[Part(text="a"), Part(url="b")]), "a")):
        copy = pickle.loads(pickle.dumps(end(message)))  # noqa: S301 (its own)
        assert (type(copy), str(copy)) == (end, text)
    assert pickle.loads(pickle.dumps(end(Message(parts=[Part(url="b")])))).args  # noqa: S301


def test_an_error_crosses_to_the_workers_parent_with_all_but_the_message_that_it_was_given() -> None:
    error = AgentError(Message(parts=[Part(text="a"), Part(url="b")]), code="c", retryable=True, delay_s=1.5)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (its own)
    assert (type(copy), str(copy), copy.code, copy.retryable, copy.delay_s) == (AgentError, "a", "c", True, 1.5)


@pytest.mark.parametrize("message", ["", Message()])
def test_what_has_to_be_authorised_must_be_said(ctx: Context, message: Any) -> None:
    """A2A 1.0, section 7.6.1."""
    with pytest.raises(ValueError, match="authorised"):
        ctx.require_auth(message)


@pytest.mark.parametrize("fraction", [-0.001, 1.001, float("nan"), float("inf"), float("-inf"), 50])
def test_progress_out_of_range_is_the_handlers_error(ctx: Context, recorder: Recorder, fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        ctx.progress(fraction)
    assert recorder.records == []


def test_progress_never_goes_back(ctx: Context, recorder: Recorder) -> None:
    for fraction in (0, 0.5, 0.25, 1, 0.9):
        ctx.progress(fraction)
    assert [note.progress for note in recorder.records if isinstance(note, Note)] == [0.0, 0.5, 0.5, 1.0, 1.0]


def test_a_message_is_the_agents_and_keeps_the_progress(ctx: Context, recorder: Recorder) -> None:
    ctx.progress(0.5, "half")
    ctx.say("hello")
    ctx.progress(0.75)
    notes = [note for note in recorder.records if isinstance(note, Note)]
    assert [(note.kind, note.progress, bool(note.message)) for note in notes] == [
        ("progress", 0.5, True),
        ("message", 0.5, True),
        ("progress", 0.75, False),
    ]
    said = Message.FromString(notes[1].message or b"")
    assert (said.role, said.parts[0].text, said.task_id) == (Role.ROLE_AGENT, "hello", str(ctx.task_id))


@pytest.mark.parametrize(
    ("content", "kind", "data", "media_type"),
    [
        (b"\x00\xff", "raw", b"\x00\xff", "application/octet-stream"),
        (b"", "raw", b"", "application/octet-stream"),
        ("é\x00", "text", "é\x00".encode(), "text/plain"),
        ("", "text", b"", "text/plain"),
        ({"a": [1, None, "é"]}, "data", None, "application/json"),
        ([], "data", b"[]", "application/json"),
    ],
)
def test_an_artifact_is_kept_by_its_kind(
    ctx: Context, recorder: Recorder, content: Any, kind: str, data: bytes | None, media_type: str
) -> None:
    ctx.artifact(content, name="result", description="What came of it.", filename="a.bin")
    record = artifacts(recorder)[0]
    (chunk,) = record.chunks
    assert (chunk.kind, chunk.media_type, chunk.filename) == (kind, media_type, "a.bin")
    assert chunk.content == data if data is not None else json.loads(chunk.content) == content
    event = TaskArtifactUpdateEvent.FromString(record.event)
    assert (event.artifact.artifact_id, event.artifact.description) == ("result", "What came of it.")
    assert (event.last_chunk, event.append, len(event.artifact.parts)) == (True, False, 0)


@pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", 'text/csv; header=present ;charset="utf-8"'])
def test_a_media_type_that_is_named_goes_before_the_kinds_own(
    ctx: Context, recorder: Recorder, media_type: str
) -> None:
    ctx.artifact("<p>", name="a", media_type=media_type)
    assert artifacts(recorder)[0].chunks[0].media_type == media_type


@pytest.mark.parametrize(
    "content", [{"a": float("nan")}, [float("inf")], {"a": object()}, {"a": b"x"}, [{1, 2}], "\ud800"]
)
def test_content_that_is_not_json_or_text_is_the_handlers_error(ctx: Context, recorder: Recorder, content: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        ctx.artifact(content, name="a")
    assert recorder.records == []


def test_a_name_that_comes_again_is_another_artifact(ctx: Context, recorder: Recorder) -> None:
    for _ in range(3):
        ctx.artifact("x", name="page")
    ctx.artifact("x", name="other")
    assert [record.artifact_id for record in artifacts(recorder)] == ["page", "page-2", "page-3", "other"]
    assert [record.name for record in artifacts(recorder)] == ["page", "page", "page", "other"]


def test_no_two_artifacts_of_an_attempt_share_an_id(ctx: Context, recorder: Recorder) -> None:
    for name in ("page", "page", "page-2", "page-2"):
        ctx.artifact("x", name=name)
    assert len({record.artifact_id for record in artifacts(recorder)}) == 4


@pytest.mark.parametrize(
    "named",
    [
        {"name": "x" * 200},
        {"name": "a\x00"},
        {"name": "a", "description": "\x00"},
        {"name": "a", "media_type": "text/" + "x" * 200},
        {"name": "a", "media_type": "text/plain\r\nSet-Cookie: a=b"},
        {"name": "a", "media_type": "text/\u4e2d"},
        {"name": "a", "media_type": "text"},
        {"name": "a", "filename": "x" * 300},
        {"name": "a", "filename": "\x00"},
    ],
)
def test_an_artifact_that_cannot_be_stored_is_the_handlers_error(ctx: Context, named: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="artifact"):
        ctx.artifact("x", **named)


def test_to_append_is_to_add_to_the_artifact_that_had_the_name_last(ctx: Context, recorder: Recorder) -> None:
    for append in (True, True, False, True):
        ctx.artifact("x", name="page", append=append)
    shown = [(record.artifact_id, record.append, record.parts_before) for record in artifacts(recorder)]
    assert shown == [("page", False, 0), ("page", True, 1), ("page-2", False, 0), ("page-2", True, 1)]


def test_what_is_added_to_an_artifact_counts_with_what_it_has(ctx: Context, settings: Any) -> None:
    settings.A2A_MAX_ARTIFACT_BYTES = 10
    ctx.artifact(b"12345678", name="a", append=True)
    with pytest.raises(AgentError, match="has 11 bytes"):
        ctx.artifact(b"123", name="a", append=True)
    ctx.artifact(b"123", name="b", append=True)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (Artifact(parts=[Part(text="x")]), "artifact_id"),
        (Artifact(artifact_id="x" * 129, parts=[Part(text="x")]), "artifact_id"),
        (Artifact(artifact_id="a"), "must have a part"),
        (Artifact(artifact_id="a", parts=[Part(filename="x")]), "content"),
        (Artifact(artifact_id="a", parts=[Part(url="x", media_type="x/" + "x" * 127)]), "media_type"),
        (Artifact(artifact_id="a", parts=[Part(text="x")], metadata={"a": "\x00"}), "NUL"),
    ],
)
def test_an_artifact_of_the_handlers_own_that_cannot_be_stored_is_its_error(
    ctx: Context, recorder: Recorder, wrong: Artifact, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        ctx.update_artifact(wrong)
    assert recorder.records == []


def test_data_nested_too_deep_is_the_handlers_error(ctx: Context) -> None:
    with pytest.raises(ValueError, match="deep"):
        ctx.artifact(nested(120), name="a")


async def test_a_coroutine_waits_until_what_it_said_is_saved(ctx: Context, recorder: Recorder) -> None:
    ctx.checkpoint("page", 8)
    await ctx.saved()
    assert recorder.flushed == 1
    recorder.lost = True
    assert ctx.told_to_stop
    with pytest.raises(LeaseLost):
        await ctx.saved()


def test_after_its_lease_was_lost_a_handler_says_nothing_more(ctx: Context, recorder: Recorder) -> None:
    assert not ctx.cancelled
    ctx.check()
    recorder.lost = True
    assert ctx.cancelled
    for say in (ctx.check, lambda: ctx.progress(0.5), lambda: ctx.say("x"), lambda: ctx.artifact("x", name="a")):
        with pytest.raises(LeaseLost):
            say()
    assert recorder.records == []


def test_a_checkpoint_is_json_under_a_name_and_is_found_again(ctx: Context, recorder: Recorder) -> None:
    assert ctx.checkpoints == {"page": 7}
    ctx.checkpoint("page", 8)
    assert recorder.records == [CheckpointRecord(name="page", data="8")]
    assert ctx.checkpoints == {"page": 8}


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("", 1, "name"),
        ("x" * 65, 1, "name"),
        ("a\x00", 1, "name"),
        ("a", {1, 2}, "checkpoint data"),
        ("a", float("nan"), "Out of range"),
        ("a", "\x00", "NUL"),
        ("a", nested(200), "nested"),
        ("a", "x" * 1_100_000, "limit"),
    ],
)
def test_a_checkpoint_that_cannot_be_stored_is_the_handlers_error(
    ctx: Context, recorder: Recorder, name: str, data: Any, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        ctx.checkpoint(name, data)
    assert recorder.records == []


@pytest.mark.parametrize(
    "call",
    [
        lambda ctx: ctx.progress(0.5),
        lambda ctx: ctx.say("x"),
        lambda ctx: ctx.artifact("x", name="a"),
        lambda ctx: ctx.checkpoint("a", 1),
        lambda ctx: ctx.check(),
        lambda ctx: ctx.cancelled,
        lambda ctx: ctx.heartbeat(),
        lambda ctx: ctx.scratch,
    ],
)
def test_every_call_is_a_sign_of_life(ctx: Context, recorder: Recorder, call: Callable[[Context], object]) -> None:
    assert recorder.signs == 0
    call(ctx)
    assert recorder.signs > 0


def test_the_scratch_folder_is_made_when_it_is_asked_for(ctx: Context, tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
    (ctx.scratch / "a").write_text("x")
    assert (ctx.scratch / "a").read_text() == "x"
    assert ctx.scratch.stat().st_mode & 0o077 == 0
