"""Files that are sent by themselves: streamed in, named in messages, read by handlers, and forgotten."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.core.files.storage import storages
from django.utils import timezone
from pytest_django import Settings

from artifacts_app import collector, uploads
from artifacts_app.models import Blob, MessageFile, Upload
from tasks_app import authentication, quota, retention
from tasks_app.agents import agent
from tasks_app.api import uploads as door
from tasks_app.models import Client
from tests.protocol.doors import Doors
from tests.protocol.test_access import key
from tests.storage.test_blobs import bytes_of, names
from tests.storage.test_files import message
from workers.testing import one_process

pytestmark = pytest.mark.django_db(transaction=True)
LARGE = bytes_of(3_000_000)
FILES = "/api/v1/files/"
DICOM = {"content-type": "application/octet-stream"}


@agent("reads-cpu", lane="cpu", description="Reads a file from its end, and gives it back as one.")
def reads_cpu(ctx: Any) -> Any:
    (part,) = ctx.message.parts
    with ctx.open(part) as file:
        file.seek(-10, 2)
        end = file.read()
        file.seek(0)
        path: Path = ctx.scratch / "copy.dat"
        with path.open("wb") as copy:
            while piece := file.read(100_000):
                copy.write(piece)
    ctx.artifact(path, name="copy")
    return {"end": end.hex(), "filename": part.filename, "raw": len(part.raw), "type": part.media_type}


@agent("reads-io", lane="io", description="The same, as a coroutine.")
async def reads_io(ctx: Any) -> Any:
    return await asyncio.to_thread(reads_cpu, ctx)


def sent(doors: Doors, content: bytes = LARGE, **headers: str) -> dict[str, Any]:
    reply = doors.send("POST", f"{FILES}?filename=scan.dat", content=content, headers={**DICOM, **headers})
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_a_file_is_kept_as_it_was_sent(storage: str, doors: Doors) -> None:
    kept = sent(doors)
    assert (kept["size_bytes"], kept["sha256"]) == (len(LARGE), hashlib.sha256(LARGE).hexdigest())
    assert (kept["filename"], kept["media_type"]) == ("scan.dat", "application/octet-stream")
    assert kept["url"] == f"{FILES}{kept['id']}/content"
    reply = doors.send("GET", kept["url"], headers={"range": "bytes=1000000-2000000"})
    assert (reply.status_code, reply.content) == (206, LARGE[1_000_000:2_000_001])
    assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''scan.dat"
    assert sent(doors)["id"] != kept["id"]
    collector.collect()
    assert len(names(storage)) == 1


@pytest.mark.parametrize(("name", "inline_bytes"), [("reads-cpu", 1_000_000), ("reads-io", 10_000_000)])
def test_a_handler_reads_what_a_message_names(
    storage: str, doors: Doors, name: str, inline_bytes: int, settings: Settings
) -> None:
    settings.A2A_MAX_ARTIFACT_BYTES = inline_bytes
    url = "http://localhost:8000" + sent(doors)["url"]
    body = {"agent": name, "message": message({"url": url})}
    with one_process() as system:
        made = doors.send("POST", "/api/v1/tasks/", json=body)
        assert made.status_code == 201, made.text
        task = system.ended(made.json()["id"])
    assert task["status"] == "completed", task
    copy, result = sorted(task["artifacts"], key=lambda each: each["name"])
    assert (copy["size_bytes"], copy["sha256"]) == (len(LARGE), hashlib.sha256(LARGE).hexdigest())
    assert doors.send("GET", copy["content_url"]).content == LARGE
    said = doors.send("GET", result["content_url"]).json()
    fits = inline_bytes > len(LARGE)
    assert said == {
        "end": LARGE[-10:].hex(),
        "filename": "scan.dat",
        "raw": len(LARGE) if fits else 0,
        "type": "application/octet-stream",
    }
    shown = task["messages"][0]["parts"][0]
    assert ("raw" in shown, shown.get("url")) == ((True, None) if fits else (False, url)), "as the client said it"
    part = doors.send("GET", f"/a2a/{name}/tasks/{task['id']}", headers={"A2A-Version": "1.0"}).json()["artifacts"]
    copied = next(each for each in part if each["artifactId"] == "copy")["parts"][0]
    assert ("raw" in copied, copied.get("url")) == ((True, None) if fits else (False, copy["content_url"]))
    collector.collect()
    assert len(names(storage)) == (2 if Blob.objects.exclude(key_id="").exists() else 1), "it went back as it came"


def test_a_file_is_its_clients_alone(doors: Doors) -> None:
    other = key(Client.objects.create(name="other"))
    kept = sent(doors)
    for path in (kept["url"], f"{FILES}{uuid4()}/content", f"{FILES}nothing/content"):
        reply = doors.send("GET", path, headers=other)
        assert (reply.status_code, reply.json()["detail"]) == (404, "no such file")
    body = {"agent": "echo", "message": message({"text": "x"}, {"url": kept["url"]})}
    reply = doors.send("POST", "/api/v1/tasks/", json=body, headers=other)
    assert reply.status_code == 400
    assert reply.json()["errors"][0]["field"] == "message.parts[1].url"
    assert not MessageFile.objects.exists()


def test_what_is_named_outlives_the_upload(doors: Doors, settings: Settings) -> None:
    named, alone = sent(doors), sent(doors, b"alone" * 50_000)
    body = {"agent": "reads-io", "message": message({"url": named["url"]})}
    assert doors.send("POST", "/api/v1/tasks/", json=body).status_code == 201
    Upload.objects.update(created_at=timezone.now() - timedelta(days=2))
    retention.prune()
    assert not Upload.objects.exists()
    assert doors.send("GET", alone["url"]).status_code == 404
    assert collector.collect() == 0, "whoever has just looked for the file may still name it"
    Blob.objects.update(collect_at=timezone.now() - timedelta(seconds=1))
    assert collector.collect() == 1
    assert Blob.objects.get().size_bytes == len(LARGE)
    assert doors.send("POST", "/api/v1/tasks/", json=body).status_code == 200, "the same message again"


def test_a_file_that_the_agent_does_not_take_is_refused(doors: Doors) -> None:
    body = {"agent": "echo", "message": message({"url": sent(doors)["url"]})}
    reply = doors.send("POST", "/api/v1/tasks/", json=body)
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (415, "message.parts[0].mediaType")


def test_only_old_files_are_forgotten(doors: Doors) -> None:
    sent(doors)
    assert uploads.forget(timedelta(days=1)) == 0
    assert Upload.objects.count() == 1


def test_a_client_brings_no_more_files_than_it_has_room_for(doors: Doors, settings: Settings) -> None:
    client = Client.objects.get_or_create(name="local")[0]
    Client.objects.update(max_storage_bytes=len(LARGE) + 100_000)
    first = sent(doors)
    body = {"agent": "reads-io", "message": message({"url": first["url"]})}
    assert doors.send("POST", "/api/v1/tasks/", json=body).status_code == 201
    quota.count()
    client.refresh_from_db()
    assert client.stored_bytes == 2 * len(LARGE), "the task's own, and the one that was sent"
    authentication.forget()
    file = {"raw": "AAAA"}
    for path, options in (
        (FILES, {"content": b"x", "headers": DICOM}),
        ("/api/v1/tasks/", {"json": {"agent": "echo", "message": message(file)}}),
        ("/api/v1/batches/", {"json": {"tasks": [{"agent": "echo", "message": message(file)}]}}),
    ):
        reply = doors.send("POST", path, **options)
        assert (reply.status_code, reply.json()["errors"][0]["field"]) == (429, "max_storage_bytes"), reply.text
    refused = doors.send(
        "POST", "/a2a/echo/message:send", json={"message": message(file)}, headers={"A2A-Version": "1.0"}
    )
    assert (refused.status_code, "room for 0 bytes more" in refused.text) == (429, True)
    text = {"agent": "echo", "message": message({"text": "no file"})}
    assert doors.send("POST", "/api/v1/tasks/", json=text).status_code == 201
    Upload.objects.all().delete()
    quota.count()
    authentication.forget()
    assert doors.send("POST", FILES, content=b"x" * 100_001, headers=DICOM).status_code == 429

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 50_000

    async def ask(url: httpx.AsyncClient) -> httpx.Response:
        return await url.post(FILES, content=parts(), headers=DICOM)

    assert doors.ask(ask).status_code == 429
    assert doors.send("POST", FILES, content=b"x" * 100_000, headers=DICOM).status_code == 201


@pytest.mark.parametrize(
    ("query", "headers", "content", "status", "field"),
    [
        ("", {}, b"x", 400, "Content-Type"),
        ("", {"content-type": "dicom"}, b"x", 400, "Content-Type"),
        ("", {"content-type": "text/plain"}, b"x", 415, "Content-Type"),
        ("", {"content-type": "multipart/form-data; boundary=x"}, b"x", 415, "Content-Type"),
        ("?filename=a/b", DICOM, b"x", 400, "filename"),
        ("?filename=" + "a" * 257, DICOM, b"x", 400, "filename"),
        ("?filename=a%00b", DICOM, b"x", 400, "filename"),
        ("", DICOM, b"x" * 1_000_001, 413, "body"),
        ("", {"content-type": "image/png"}, b"<html><script>", 415, "Content-Type"),
        ("", {"content-type": "application/pdf"}, b"PK\x03\x04" + b"\0" * 100, 415, "Content-Type"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(
    doors: Doors, settings: Settings, query: str, headers: dict[str, str], content: bytes, status: int, field: str
) -> None:
    settings.A2A_MAX_FILE_BYTES = 1_000_000
    reply = doors.send("POST", FILES + query, content=content, headers=headers)
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (status, field), reply.text
    assert not Upload.objects.exists()
    collector.collect()
    assert not Blob.objects.exists()


def test_more_than_it_declared_is_refused_where_it_passes_the_limit(doors: Doors, settings: Settings) -> None:
    settings.A2A_MAX_FILE_BYTES = 5_000_000

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(FILES, content=endless(), headers=DICOM)

    reply = doors.ask(ask)
    assert (reply.status_code, "the limit is 5000000 bytes" in reply.text) == (413, True)
    collector.collect()
    assert not Blob.objects.exists()


def test_a_client_that_falls_silent_is_let_go(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SLICE_S", 0.2)

    async def silent() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        await asyncio.sleep(60)

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(FILES, content=silent(), headers=DICOM)

    assert doors.ask(ask).status_code == 408
    collector.collect()
    assert not Blob.objects.exists()


@pytest.mark.parametrize("first", [b"", b"x" * 2_000_000])
def test_a_client_that_says_nothing_keeps_nobody_out(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(door, "SLICE_S", 0.5)

    async def silent() -> AsyncIterator[bytes]:
        yield first
        await asyncio.sleep(60)

    async def ask(client: httpx.AsyncClient) -> list[int]:
        held = [asyncio.create_task(client.post(FILES, content=silent(), headers=DICOM)) for _ in range(3)]
        return [reply.status_code for reply in await asyncio.gather(*held)]

    assert sorted(doors.ask(ask)) == [408, 408, 429], "two of each client at once"
    assert doors.send("POST", FILES, content=b"x", headers=DICOM).status_code == 201


def test_a_name_and_type_of_the_parts_own_are_looked_at_too(doors: Doors) -> None:
    page = sent(doors, b"<html><script>alert(1)</script>")
    body = {"agent": "echo", "message": message({"url": page["url"], "mediaType": "text/plain"})}
    reply = doors.send("POST", "/api/v1/tasks/", json=body)
    assert (reply.status_code, "the bytes are text/html" in reply.text) == (415, True)


def test_an_address_of_another_server_is_not_ours(doors: Doors) -> None:
    kept = sent(doors)
    body = {"agent": "reads-io", "message": message({"url": "https://elsewhere.example" + kept["url"]})}
    reply = doors.send("POST", "/api/v1/tasks/", json=body)
    assert (reply.status_code, "fetches nothing" in reply.text) == (415, True)


def test_a_storage_that_fails_is_said(doors: Doors, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, name: str, content: Any, max_length: int | None = None) -> str:
        content.read(100_000)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(storages[storage]), "save", full)
    reply = doors.send("POST", FILES, content=LARGE, headers=DICOM)
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (503, "storage")
    assert "No space left on device; nothing was accepted" in reply.text
