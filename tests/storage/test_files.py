"""Files of clients' messages: they stand elsewhere, and whoever reads the message sees them as they were said."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import pytest
from a2a.types import Message
from django.core.files.storage import storages

from artifacts_app import collector
from artifacts_app.models import Blob, MessageFile
from tasks_app import engine
from tasks_app.agents import agent
from tasks_app.engine import files
from tasks_app.models import Task, TaskEvent, TaskRequest
from tests.protocol.bindings import BINDINGS
from tests.protocol.doors import Doors
from tests.storage.test_blobs import bytes_of, names
from workers.testing import one_process

pytestmark = pytest.mark.django_db(transaction=True)
LARGE, OTHER = bytes_of(300_000), bytes_of(200_000, seed=5)


def raw(content: bytes, **said: str) -> dict[str, str]:
    return {"raw": base64.b64encode(content).decode(), **said}


def message(*parts: dict[str, Any], **said: Any) -> dict[str, Any]:
    return {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": list(parts), **said}


def _heard(ctx: Any) -> Any:
    parts = [part for said in (*ctx.history, ctx.message) for part in said.parts]
    heard = [[part.filename, part.media_type, len(part.raw), part.url] for part in parts if part.text == ""]
    if ctx.text == "more":
        ctx.require_input(f"and {heard}")
    return {"heard": heard, "same": [part.raw in (LARGE, OTHER) for part in parts if part.raw]}


@agent("hears-cpu", lane="cpu", description="Says what it was sent.")
def hears_cpu(ctx: Any) -> Any:
    return _heard(ctx)


@agent("hears-io", lane="io", description="The same, as a coroutine.")
async def hears_io(ctx: Any) -> Any:
    return _heard(ctx)


def stored_message() -> Message:
    return parsed(TaskRequest.objects.get())


@pytest.mark.parametrize("name", ["hears-cpu", "hears-io"])
def test_the_handler_and_the_client_see_what_was_sent(storage: str, doors: Doors, name: str) -> None:
    large = raw(LARGE, filename="scan.bin", mediaType="application/x-scan")
    first = message(large, {"text": "more"}, raw(b"tiny"))
    made = doors.send("POST", "/api/v1/tasks/", json={"agent": name, "message": first})
    assert made.status_code == 201, made.text
    task_id = made.json()["id"]
    shown = made.json()["messages"][0]["parts"][0]
    assert (base64.b64decode(shown["raw"]), shown["filename"]) == (LARGE, "scan.bin")
    assert files.addressed(stored_message().parts[0]) is not None
    assert len(TaskRequest.objects.get().message) < 1000
    with one_process() as system:
        system.ended(task_id)
        again = doors.send("POST", f"/api/v1/tasks/{task_id}/messages/", json={"message": message(raw(OTHER))})
        assert again.status_code == 200, again.text
        task = system.ended(task_id)
    assert task["status"] == "completed", task
    content = doors.send("GET", task["artifacts"][0]["content_url"]).json()
    assert content["heard"][0] == ["scan.bin", "application/x-scan", 300_000, ""]
    assert content["heard"][-1][2] == 200_000
    assert content["same"] == [True, False, True]
    for binding in BINDINGS.values():
        history = binding(doors).call("GetTask", {"id": task_id}, agent=name)["history"]
        sent = [base64.b64decode(part["raw"]) for said in history for part in said["parts"] if "raw" in part]
        assert sent == [LARGE, b"tiny", OTHER]
    assert MessageFile.objects.filter(task_id=task_id).count() == len(names(storage)) - (
        1 if Blob.objects.exclude(key_id="").exists() else 0  # the result is sealed, too
    )


def test_the_same_message_again_is_the_same_task(storage: str, doors: Doors) -> None:
    said = message(raw(LARGE))
    body = {"agent": "echo", "message": said}
    first = doors.send("POST", "/api/v1/tasks/", json=body)
    again = doors.send("POST", "/api/v1/tasks/", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    changed = {"agent": "echo", "message": {**said, "parts": [raw(OTHER)]}}
    other = doors.send("POST", "/api/v1/tasks/", json=changed)
    assert (other.status_code, "was used before" in other.text) == (400, True)


def test_a_repeat_is_one_though_files_go_elsewhere_now(doors: Doors, settings: Any) -> None:
    body = {"agent": "echo", "message": message(raw(LARGE))}
    first = doors.send("POST", "/api/v1/tasks/", json=body).json()["id"]
    Blob.objects.update(collect_at=None, sha256=b"x" * 32)  # as if the same bytes were put under another id
    assert doors.send("POST", "/api/v1/tasks/", json=body).json()["id"] == first


def test_tasks_of_a_batch_share_what_is_the_same(storage: str, doors: Doors) -> None:
    tasks = [{"agent": "echo", "message": {"parts": [raw(LARGE), {"text": str(number)}]}} for number in range(5)]
    reply = doors.send("POST", "/api/v1/batches/", json={"tasks": tasks})
    assert reply.status_code == 201, reply.text
    assert MessageFile.objects.count() == 5
    assert len(names(storage)) == 1


def test_a_batch_that_is_refused_leaves_nothing_that_is_not_collected(storage: str, doors: Doors) -> None:
    tasks = [{"agent": "echo", "message": {"parts": [raw(LARGE)]}}, {"agent": "nobody"}]
    assert doors.send("POST", "/api/v1/batches/", json={"tasks": tasks}).status_code == 400
    assert Blob.objects.get().collect_at is not None
    assert collector.verify().is_well
    Blob.objects.update(collect_at="2000-01-01T00:00:00Z")
    assert collector.collect() == 1


def test_a_rerun_has_its_files_though_the_first_is_deleted(doors: Doors) -> None:
    with one_process() as system:
        body = {"agent": "hears-io", "message": message(raw(LARGE))}
        task_id = doors.send("POST", "/api/v1/tasks/", json=body).json()["id"]
        system.ended(task_id)
        again = doors.send("POST", f"/api/v1/tasks/{task_id}/rerun/").json()["id"]
        engine.run(engine.delete, [Task.objects.get(id=task_id).id])
        collector.collect()
        task = system.ended(again)
    assert doors.send("GET", task["artifacts"][0]["content_url"]).json()["heard"][0][2] == 300_000


@pytest.mark.parametrize("binding", BINDINGS.values(), ids=BINDINGS.keys())
def test_a_client_may_not_say_our_addresses(doors: Doors, binding: Any) -> None:
    stolen = {"url": f"A2A-blob:{uuid4()}?3"}
    with pytest.raises(Exception, match="is no scheme") as caught:
        binding(doors).call("SendMessage", {"message": message(stolen)})
    assert "message.parts[0].url" in str(caught.value)


def test_an_address_in_a_message_leads_to_its_own_tasks_files_only(doors: Doors) -> None:
    """Whoever has written it there: a handler, or the remote agent that it relays."""
    mine = doors.send("POST", "/api/v1/tasks/", json={"agent": "echo", "message": message(raw(LARGE))}).json()["id"]
    theirs = doors.send("POST", "/api/v1/tasks/", json={"agent": "echo", "message": message({"text": "x"})}).json()[
        "id"
    ]
    blob = Blob.objects.get()
    said = Message(message_id="m", parts=stored_message_of(mine).parts)
    ((found,),) = engine.run(files.filled, [(Task.objects.get(id=theirs).id, [said.SerializeToString()])])
    assert Message.FromString(found).parts[0].url == f"a2a-blob:{blob.id}?300000"
    assert not TaskEvent.objects.filter(task_id=theirs, payload__isnull=False).exists()


def stored_message_of(task_id: str) -> Message:
    return parsed(TaskRequest.objects.get(task_id=task_id))


def parsed(request: TaskRequest) -> Message:
    message: Message = Message.FromString(bytes(request.message))
    return message


def test_a_storage_that_is_full_is_said_before_anything_is_accepted(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artifacts_app.storage.database import DatabaseStorage

    def full(self: Any, name: str, content: Any, max_length: int | None = None) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DatabaseStorage, "save", full)
    reply = doors.send("POST", "/api/v1/tasks/", json={"agent": "echo", "message": message(raw(LARGE))})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
    assert "No space left on device; nothing was accepted" in reply.text
    assert not Task.objects.exists()
    collector.collect()
    assert not Blob.objects.exists()


def test_no_answer_holds_more_files_than_fit_into_one(doors: Doors, settings: Any) -> None:
    settings.A2A_MAX_ARTIFACT_BYTES = 700_000
    headers = {"content-type": "application/octet-stream"}
    url = doors.send("POST", "/api/v1/files/", content=LARGE, headers=headers).json()["url"]
    parts = [raw(OTHER), *[{"url": url}] * 20, raw(bytes_of(300_000, seed=7))]
    made = doors.send("POST", "/api/v1/tasks/", json={"agent": "hears-io", "message": message(*parts)})
    assert made.status_code == 201, made.text
    shown = made.json()["messages"][0]["parts"]
    assert [base64.b64decode(part["raw"]) for part in shown[:2]] == [OTHER, LARGE]
    assert {part.get("url") for part in shown[2:-1]} == {url}
    last = shown[-1]["url"]
    assert doors.send("GET", last).content == bytes_of(300_000, seed=7), "what was not sent by itself has one too"
    with one_process() as system:
        task = system.ended(made.json()["id"])
    heard = doors.send("GET", task["artifacts"][0]["content_url"]).json()["heard"]
    assert sum(size for _, _, size, _ in heard) == 500_000
    assert all(url.startswith("a2a-blob:") for _, _, size, url in heard if not size)


def test_a_message_is_the_same_whether_its_files_went_elsewhere_or_not(doors: Doors, settings: Any) -> None:
    settings.A2A_ARTIFACT_INLINE_BYTES = 10_000_000
    body = {"agent": "echo", "message": message(raw(LARGE))}
    assert doors.send("POST", "/api/v1/tasks/", json=body).status_code == 201
    settings.A2A_ARTIFACT_INLINE_BYTES = 1000
    assert doors.send("POST", "/api/v1/tasks/", json=body).status_code == 200


@agent("repeats", lane="io", description="Says what it is told, wherever it can.")
async def repeats(ctx: Any) -> str:
    ctx.checkpoint("said", ctx.text)
    ctx.progress(0.5, ctx.text)
    ctx.artifact(ctx.text, name=ctx.text, description=ctx.text)
    return str(ctx.text)


def test_words_that_look_like_our_addresses_break_nothing(doors: Doors) -> None:
    words = f"a2a-blob:{uuid4()}?7"
    with one_process() as system:
        body = {"agent": "repeats", "message": message(raw(LARGE), {"text": words})}
        task = system.ended(doors.send("POST", "/api/v1/tasks/", json=body).json()["id"])
    assert task["status"] == "completed", task
    events = doors.send("GET", f"/api/v1/tasks/{task['id']}/events/").text
    assert words in events
    assert '"status":"completed"' in events


def test_a_schedule_names_no_file_that_will_be_gone(doors: Doors) -> None:
    headers = {"content-type": "text/csv"}
    url = doors.send("POST", "/api/v1/files/", content=b"a,b", headers=headers).json()["url"]
    task = {"agent": "echo", "message": {"parts": [{"url": url}]}}
    reply = doors.send("POST", "/api/v1/schedules/", json={"name": "s", "every_s": 60, "task": task})
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, "task.message.parts")


def test_a_file_whose_bytes_cannot_be_looked_at_is_told_to_be_tried_again(doors: Doors) -> None:
    headers = {"content-type": "text/csv"}
    url = doors.send("POST", "/api/v1/files/", content=b"a,b" * 50_000, headers=headers).json()["url"]
    storages["database"].delete(str(Blob.objects.get().id))
    reply = doors.send("POST", "/api/v1/tasks/", json={"agent": "echo", "message": message({"url": url})})
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (429, "storage")
    assert doors.send("POST", "/api/v1/files/", content=b"a,b" * 50_000, headers=headers).status_code == 201
    assert (
        doors.send("POST", "/api/v1/tasks/", json={"agent": "echo", "message": message({"url": url})}).status_code
        == 201
    )
