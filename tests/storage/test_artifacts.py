"""Artifacts whose contents stand elsewhere, from the handler to the client; the same in every storage."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from django.core.files.storage import storages
from django.db import OperationalError
from pytest_django import Settings

from artifacts_app import blobs, collector
from artifacts_app.models import Artifact, ArtifactChunk, Blob
from tasks_app import engine, reads
from tasks_app.agents import agent
from tasks_app.engine import ArtifactRecord, Chunk
from tasks_app.models import Task
from tasks_app.status import TaskStatus
from tests.factory import Factory, completed
from tests.protocol.bindings import BINDINGS
from tests.protocol.doors import Doors
from tests.s3 import FakeS3
from tests.storage.conftest import use
from tests.storage.test_blobs import bytes_of, names
from workers import storing
from workers.testing import one_process

LARGE = bytes_of(300_000)


def _make(ctx: Any) -> str:
    ctx.artifact(LARGE, name="scan", media_type="application/x-scan")
    ctx.artifact(b"small", name="note")
    for number in range(3):
        ctx.artifact(LARGE[:100_000], name="log", append=True, last_chunk=number == 2)
    return "x" * 100_000


@agent("large-cpu", lane="cpu", description="Makes large artifacts.", max_attempts=2)
def large_cpu(ctx: Any) -> str:
    return _make(ctx)


@agent("large-io", lane="io", description="Makes large artifacts, as a coroutine.", max_attempts=2)
async def large_io(ctx: Any) -> str:
    return _make(ctx)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["large-cpu", "large-io"])
def test_what_a_handler_makes_is_fetched_as_it_was(storage: str, doors: Doors, name: str) -> None:
    with one_process() as system:
        task = system.run(name)
    assert task["status"] == "completed", task
    found = {each["artifact_id"]: each for each in task["artifacts"]}
    whole = {"scan": LARGE, "note": b"small", "log": LARGE[:100_000] * 3, "result": b"x" * 100_000}
    for artifact_id, content in whole.items():
        said = found[artifact_id]
        assert (said["size_bytes"], said["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        reply = doors.send("GET", said["content_url"])
        assert (reply.status_code, reply.content) == (200, content)
        part = doors.send("GET", said["content_url"], headers={"range": "bytes=2-65540"})
        assert (part.status_code, part.content) == (206, content[2:65541])
    sealed = Blob.objects.exclude(key_id="").exists()
    assert ArtifactChunk.objects.filter(content=None).count() == (6 if sealed else 5)
    assert len(names(storage)) == (4 if sealed else 3), "the three pieces of the log are one"
    events = engine.run(reads.events, Task.objects.get().id, after=0, limit=100)
    assert LARGE in [part.content for event in events for part in event.parts]


@pytest.mark.django_db
def test_what_goes_with_its_task_is_collected_and_what_another_has_stays(storage: str, factory: Factory) -> None:
    kept, gone = (_with(factory, content) for content in (LARGE, LARGE + b"!"))
    both = _with(factory, LARGE)
    Blob.objects.update(collect_at=None)
    engine.run(engine.delete, [gone, both])
    assert Blob.objects.filter(collect_at=None).count() == 0
    assert collector.collect() == 1
    assert len(names(storage)) == 1
    chunk = ArtifactChunk.objects.select_related("blob").get(task_id=kept)
    assert chunk.blob is not None
    assert blobs.load(blobs.of(chunk.blob)) == LARGE
    assert Blob.objects.get().collect_at is None
    assert collector.verify().is_well


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["large-cpu", "large-io"])
def test_a_storage_that_fails_is_tried_again_with_the_task(
    storage: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, asked = type(storages[storage]).save, []

    def save(self: Any, name: str, content: Any, max_length: int | None = None) -> str:
        asked.append(name)
        if len(asked) == 1:
            raise OSError(28, "No space left on device")
        return str(really(self, name, content, max_length))

    monkeypatch.setattr(type(storages[storage]), "save", save)
    with one_process() as system:
        task = system.run(name)
    assert (task["status"], task["attempt"]) == ("completed", 2), task
    attempts = list(Task.objects.get().attempts.order_by("number").values_list("outcome", "error__code"))
    assert attempts == [("retried", "storage_failed"), ("completed", None)]
    collector.collect()
    assert collector.verify().is_well
    assert Blob.objects.filter(stored_at=None).count() == 0


def _with(factory: Factory, content: bytes) -> Any:
    """A completed task with an artifact of this content; its id."""
    claim = factory.claimed()
    chunk = Chunk(kind="raw", content=content, media_type="application/octet-stream")
    factory.write(claim, ArtifactRecord(artifact_id="a", chunks=(chunk,), event=b""), finish=completed())
    assert Task.objects.get(id=claim.task_id).status == TaskStatus.COMPLETED
    return claim.task_id


@pytest.mark.django_db(transaction=True)
def test_an_address_of_what_is_in_s3_is_s3s_own(s3: FakeS3, doors: Doors, local: Factory, settings: Settings) -> None:
    use(settings, "s3://artifacts/folder")
    artifact_id = Artifact.objects.get(task_id=_with(local, LARGE)).id
    reply = doors.send("GET", f"/api/v1/artifacts/{artifact_id}/url/?expires_s=60")
    url = reply.json()["url"]
    assert url.startswith(f"{s3.endpoint_url}/artifacts/folder/")
    assert "X-Amz-Expires=60" in url
    fetched = httpx.get(url)
    assert (fetched.status_code, fetched.content) == (200, LARGE)
    assert fetched.headers["content-type"] == "application/octet-stream"
    assert fetched.headers["content-disposition"] == "attachment; filename*=UTF-8''artifact"


@pytest.mark.django_db(transaction=True)
def test_an_address_of_what_is_elsewhere_is_ours(doors: Doors, local: Factory) -> None:
    artifact_id = Artifact.objects.get(task_id=_with(local, LARGE)).id
    url = doors.send("GET", f"/api/v1/artifacts/{artifact_id}/url/").json()["url"]
    assert f"/api/v1/artifacts/{artifact_id}/content?token=" in url
    assert doors.send("GET", url).content == LARGE


@pytest.mark.django_db(transaction=True)
def test_what_the_storage_has_lost_stops_no_stream_and_no_list(doors: Doors, local: Factory) -> None:
    lost = _with(local, LARGE)
    artifact_id = Artifact.objects.get(task_id=lost).id
    storages["database"].delete(str(Blob.objects.get().id))
    url = f"/api/v1/artifacts/{artifact_id}/content"
    for binding in BINDINGS.values():
        task = binding(doors).call("GetTask", {"id": str(lost)})
        assert task["artifacts"][0]["parts"][0]["url"] == url
    events = engine.run(reads.events, lost, after=0, limit=100)
    assert [part.content for event in events for part in event.parts] == [url.encode()]
    with pytest.raises(OSError, match="holds no piece"):
        doors.send("GET", url)


def _once(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> list[Any]:
    """Has a function of the blobs raise this the first time; its calls."""
    really: Callable[..., Any] = getattr(blobs, name)
    calls: list[Any] = []

    def called(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise error
        return really(*args)

    monkeypatch.setattr(blobs, name, called)
    return calls


@agent("large-on", lane="io", description="Goes on where what it said could not be written.", max_attempts=1)
async def large_on(ctx: Any) -> str:
    ctx.artifact(LARGE, name="scan")
    with suppress(OperationalError):
        await ctx.saved()
    ctx.artifact(b"small", name="note")
    return "done"


@pytest.mark.django_db(transaction=True)
def test_what_was_said_while_the_database_was_away_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _once(monkeypatch, "put", OperationalError("away for longer than a lease"))
    monkeypatch.setattr(storing, "patiently", lambda put, *args: put(*args))
    with one_process() as system:
        task = system.run("large-on")
    assert (task["status"], len(calls)) == ("completed", 2), task
    assert {each["artifact_id"] for each in task["artifacts"]} == {"scan", "note", "result"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["large-cpu", "large-io"])
def test_a_storage_that_fails_while_a_sum_is_made_costs_an_attempt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _once(monkeypatch, "load", blobs.StorageFailed("away"))
    with one_process() as system:
        task = system.run(name)
    assert task["status"] == "completed", task
    attempts = list(Task.objects.get().attempts.order_by("number").values_list("outcome", "error__code"))
    assert attempts == [("retried", "storage_failed"), ("completed", None)]
    assert {each["artifact_id"] for each in task["artifacts"]} == {"scan", "note", "log", "result"}


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_storage_that_others_need(
    doors: Doors, local: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy, light = _with(local, LARGE), local.finished()
    over, really = threading.Event(), blobs.load

    def slow(stored: blobs.Stored) -> bytes:
        over.wait(30)
        return really(stored)

    monkeypatch.setattr(blobs, "load", slow)
    headers = {"A2A-Version": "1.0"}

    async def ask(client: httpx.AsyncClient) -> Any:
        path = "/a2a/echo/tasks/{}"
        waits = [asyncio.create_task(client.get(path.format(heavy), headers=headers)) for _ in range(3)]
        for _ in range(3):
            reply = await client.get(path.format(light), headers=headers)
            assert reply.status_code == 200
        assert not any(wait.done() for wait in waits)
        over.set()
        return [await wait for wait in waits]

    for reply in doors.ask(ask):
        part = reply.json()["artifacts"][0]["parts"][0]
        assert base64.b64decode(part["raw"]) == LARGE
