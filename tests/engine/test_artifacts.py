"""Artifacts in pieces: added to, begun again, and what a retry keeps of them (A2A 1.0, section 4.2.2; DESIGN 10)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from a2a.server.tasks.task_manager import append_artifact_to_task
from a2a.types import Artifact as WireArtifact
from a2a.types import Part, TaskArtifactUpdateEvent
from a2a.types import Task as WireTask
from pytest_django import Settings

from artifacts_app import blobs
from artifacts_app.models import Artifact, ArtifactChunk
from tasks_app import engine, reads
from tasks_app.a2a import wire
from tasks_app.engine import Claim, Finish, Record
from tasks_app.models import Outcome, Task
from tasks_app.status import TaskStatus
from tests.engine.test_turns import next_turn
from tests.factory import Factory, completed, lost
from workers.context import Context
from workers.scratch import Scratch

pytestmark = pytest.mark.django_db
RETRY = Finish(status=TaskStatus.PENDING, outcome=Outcome.RETRIED)


class Said:
    """A handler's context whose records are written when the test says so."""

    def __init__(self, factory: Factory, claim: Claim) -> None:
        self.lost = False
        self._factory = factory
        self._claim = claim
        self._records: list[Record] = []
        self.ctx = Context(claim, self, Scratch(Path("nowhere")))

    def alive(self) -> None:
        pass

    def add(self, record: Record) -> None:
        self._records.append(record)

    store = keep = add

    async def flush(self) -> None:
        self.write()

    def write(self, finish: Finish | None = None) -> None:
        records, self._records = self._records, []
        assert self._factory.write(self._claim, *records, finish=finish).accepted


@pytest.fixture(autouse=True, params=["in rows", "in blobs"])
def _where(request: Any, settings: Settings) -> None:
    """Where the contents stand: it must make no difference."""
    settings.A2A_ARTIFACT_INLINE_BYTES = {"in rows": 64 * 1024, "in blobs": -1}[request.param]


@pytest.fixture(params=["each by itself", "all in one"])
def flush(request: Any) -> Any:
    """Whether what is said is written at once or together: it must make no difference."""
    return (lambda said: said.write()) if request.param == "each by itself" else (lambda said: None)


def content(task_id: UUID) -> dict[str, list[bytes]]:
    """What the artifacts of a task hold; the same by the table and by a stream that is read from its beginning."""
    rows = ArtifactChunk.objects.current().filter(task_id=task_id).order_by("generation", "position")
    found: dict[str, list[bytes]] = {}
    for row in rows.select_related("artifact", "blob"):
        there = blobs.load(blobs.of(row.blob)) if row.blob else bytes(row.content or b"")
        found.setdefault(row.artifact.artifact_id, []).append(there)
    streamed = WireTask()
    for event in engine.run(reads.events, task_id, after=0):
        update = wire.event(event, context_id="c")
        if update.HasField("artifact_update"):
            append_artifact_to_task(streamed, update.artifact_update)
    assert {one.artifact_id: [wire_content(part) for part in one.parts] for one in streamed.artifacts} == found
    for artifact in Artifact.objects.filter(task_id=task_id):
        assert artifact.size_bytes == sum(map(len, found[artifact.artifact_id]))
        positions = rows.filter(artifact=artifact).values_list("position", flat=True)
        assert list(positions) == list(range(len(found[artifact.artifact_id])))
    return found


def wire_content(part: Part) -> bytes:
    return part.raw if part.WhichOneof("content") == "raw" else part.text.encode()


def sha256(artifact_id: str) -> bytes | None:
    stored = Artifact.objects.get(artifact_id=artifact_id).sha256
    return None if stored is None else bytes(stored)


def test_what_is_appended_comes_after_what_was_there(factory: Factory, flush: Any) -> None:
    claim = factory.claimed()
    said = Said(factory, claim)
    for number in range(4):
        said.ctx.artifact(b"%d" % number, name="log", append=True, last_chunk=number == 3)
        said.ctx.artifact(b"whole", name="page")
        flush(said)
    said.write(completed())
    assert content(claim.task_id)["log"] == [b"0", b"1", b"2", b"3"]
    assert content(claim.task_id)["page-4"] == [b"whole"]
    assert sha256("log") == hashlib.sha256(b"0123").digest()
    assert sha256("page") == hashlib.sha256(b"whole").digest()


def test_the_first_piece_starts_the_artifact_on_the_wire(factory: Factory, flush: Any) -> None:
    said = Said(factory, factory.claimed())
    for number in range(3):
        said.ctx.artifact("x", name="log", append=True, last_chunk=number == 2)
        flush(said)
    said.write()
    updates = [
        TaskArtifactUpdateEvent.FromString(bytes(event.payload or b""))
        for event in Task.objects.get().events.filter(kind="artifact")
    ]
    assert [(update.append, update.last_chunk) for update in updates] == [(False, False), (True, False), (True, True)]


def test_the_sum_is_unknown_until_the_last_piece_has_come(factory: Factory) -> None:
    said = Said(factory, factory.claimed())
    said.ctx.artifact(b"a", name="log", last_chunk=False)
    said.write()
    assert sha256("log") is None
    said.ctx.artifact(b"b", name="log", append=True)
    said.write()
    assert sha256("log") == hashlib.sha256(b"ab").digest()


def test_the_same_id_again_takes_its_place_and_is_added_to_anew(factory: Factory, flush: Any) -> None:
    claim = factory.claimed()
    said = Said(factory, claim)
    for text, append in (("a", False), ("b", True), ("c", False), ("d", True), ("e", True)):
        said.ctx.update_artifact(WireArtifact(artifact_id="x", parts=[Part(text=text)]), append=append)
        flush(said)
    said.write()
    assert content(claim.task_id) == {"x": [b"c", b"d", b"e"]}


def test_a_piece_keeps_the_name_and_adds_to_the_metadata(factory: Factory, flush: Any) -> None:
    """As the SDK's own store does."""
    said = Said(factory, factory.claimed())
    first = WireArtifact(artifact_id="x", name="report", description="d", parts=[Part(text="a", media_type="text/csv")])
    first.metadata.update({"a": 1, "b": 1})
    said.ctx.update_artifact(first, last_chunk=False)
    flush(said)
    piece = WireArtifact(artifact_id="x", name="other", parts=[Part(raw=b"b"), Part(raw=b"c")])
    piece.metadata.update({"b": 2})
    said.ctx.update_artifact(piece, append=True)
    said.write()
    artifact = Artifact.objects.get()
    assert (artifact.name, artifact.description, artifact.type) == ("report", "d", "text/csv")
    assert artifact.metadata == {"a": 1.0, "b": 2.0}


def test_parts_of_every_kind_come_back_as_they_were(factory: Factory) -> None:
    claim = factory.claimed()
    said = Said(factory, claim)
    parts = [
        Part(text="é", media_type="text/markdown", filename="a.md"),
        Part(raw=b"\x00\xff", media_type="image/png"),
        Part(url="https://example.org/é", media_type="image/png", filename="b.png"),
        Part(media_type="application/json"),
        Part(media_type="application/json"),
    ]
    parts[3].data.struct_value.update({"a": [1, None]})
    parts[4].data.string_value = "text as data"
    parts[2].metadata.update({"pages": [1, 2]})
    made = WireArtifact(artifact_id="x", name="n", parts=parts)
    made.metadata.update({"m": True})
    said.ctx.update_artifact(made)
    said.write()
    record = engine.run(reads.task, claim.task_id, client_id=factory.owner.pk)
    assert record is not None
    assert [wire.artifact(view) for view in record.artifacts] == [made]
    update = wire.event(engine.run(reads.events, claim.task_id, after=2)[0], context_id="c").artifact_update
    assert update.artifact == made


# retries ---------------------------------------------------------------------------------------------------------


def test_a_new_attempt_goes_on_from_the_last_checkpoint(factory: Factory, flush: Any) -> None:
    claim = factory.claimed()
    said = Said(factory, claim)
    for word in (b"a", b"b"):
        said.ctx.artifact(word, name="log", append=True, last_chunk=False)
        flush(said)
    said.ctx.checkpoint("step", 1)
    said.ctx.artifact(b"not kept", name="log", append=True, last_chunk=False)
    said.write(RETRY)
    said = Said(factory, next_turn(factory, claim.task_id))
    for word in (b"c", b"d"):
        said.ctx.artifact(word, name="log", append=True, last_chunk=word == b"d")
        flush(said)
    said.write(completed())
    assert content(claim.task_id) == {"log": [b"a", b"b", b"c", b"d"]}
    assert sha256("log") == hashlib.sha256(b"abcd").digest()


def test_what_is_kept_is_kept_through_attempts_that_come_no_further(factory: Factory, flush: Any) -> None:
    claim = factory.claimed()
    said = Said(factory, claim)
    said.ctx.artifact(b"a", name="log", append=True)
    said.ctx.checkpoint("step", 1)
    said.write()
    for _ in range(3):
        engine.run(engine.lose, [lost(claim.attempt_id, Outcome.HANDED_BACK, spend=False)])
        claim = next_turn(factory, claim.task_id)
        said = Said(factory, claim)
        for _ in range(2):
            said.ctx.artifact(b"again", name="log", append=True)
            flush(said)
        said.write()
    assert content(claim.task_id) == {"log": [b"a", b"again", b"again"]}


def test_a_new_attempt_without_a_checkpoint_starts_anew(factory: Factory, flush: Any) -> None:
    claim = factory.claimed()
    for word in (b"first", b"second"):
        said = Said(factory, claim)
        said.ctx.artifact(word, name="log", append=True)
        flush(said)
        said.ctx.artifact(word, name="log", append=True)
        said.write(RETRY)
        claim = next_turn(factory, claim.task_id)
    assert content(claim.task_id) == {"log": [b"second", b"second"]}


def test_the_next_turn_adds_to_what_stood_when_it_began(factory: Factory, flush: Any) -> None:
    claim = factory.claimed()
    said = Said(factory, claim)
    said.ctx.artifact(b"a", name="log", append=True)
    said.ctx.artifact(b"b", name="log", append=True)
    factory.deliver(claim.task_id)
    said.write(completed())
    for _ in range(2):
        claim = next_turn(factory, claim.task_id)
        said = Said(factory, claim)
        said.ctx.artifact(b"c", name="log", append=True)
        flush(said)
        said.ctx.artifact(b"d", name="log", append=True)
        said.write(RETRY)
    assert content(claim.task_id) == {"log": [b"a", b"b", b"c", b"d"]}


def test_a_content_that_was_replaced_before_the_checkpoint_is_not_brought_back(factory: Factory) -> None:
    claim = factory.claimed()
    said = Said(factory, claim)
    for text, append in (("old", False), ("older", True), ("new", False), ("newer", True)):
        said.ctx.update_artifact(WireArtifact(artifact_id="x", parts=[Part(text=text)]), append=append)
        said.write()
    said.ctx.checkpoint("step", 1)
    said.ctx.update_artifact(WireArtifact(artifact_id="x", parts=[Part(text="newest")]))
    said.write(RETRY)
    said = Said(factory, next_turn(factory, claim.task_id))
    said.ctx.update_artifact(WireArtifact(artifact_id="x", parts=[Part(text="more")]), append=True)
    said.write()
    assert content(claim.task_id) == {"x": [b"new", b"newer", b"more"]}


def test_a_repeated_write_adds_nothing_twice(factory: Factory) -> None:
    claim = factory.claimed()
    said = Said(factory, claim)
    said.ctx.artifact(b"a", name="log", append=True, last_chunk=False)
    said.write()
    said.ctx.artifact(b"b", name="log", append=True)
    item = engine.Write(task_id=claim.task_id, attempt_id=claim.attempt_id, recorded=1, records=tuple(said._records))
    assert [engine.run(engine.write, [item])[0].accepted for _ in range(2)] == [True, True]
    assert content(claim.task_id) == {"log": [b"a", b"b"]}
    assert sha256("log") == hashlib.sha256(b"ab").digest()
