"""``GET /api/v1/batches/<id>/events/``: one stream that tells how all tasks of a batch stand."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from django.db.models import F

from tasks_app import engine
from tasks_app.api import batch_stream
from tasks_app.api.batch_stream import TOLD_MAX, _Picture
from tasks_app.engine import NewBatch, Note, Write
from tasks_app.models import Client, Task
from tasks_app.reads import PlaceRecord
from tasks_app.status import Lane, TaskStatus
from tests.engine.test_batches import FAILED, rerun
from tests.factory import Factory, admit, completed
from tests.live import wait_for
from tests.protocol.doors import Doors

BATCHES = "/api/v1/batches/"


def made(local: Factory, *names: str) -> tuple[UUID, list[UUID]]:
    """A batch of tasks, each made by the factory's method of this name."""
    new = NewBatch(client_id=local.owner.pk, digest=b"d" * 32, size=len(names))
    batch_id = engine.run(engine.open_batch, new).batch_id
    tasks = [getattr(local, name)(batch_id=batch_id, batch_index=index) for index, name in enumerate(names)]
    return batch_id, [getattr(task, "task_id", task) for task in tasks]


def stream(doors: Doors, batch_id: UUID, **headers: str) -> httpx.Response:
    return doors.send("GET", f"{BATCHES}{batch_id}/events/", headers=headers)


def events(reply: httpx.Response) -> list[tuple[str, Any, str]]:
    """The name, the data and the id of each event."""
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    found = []
    for block in reply.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"]), fields.get("id", "")))
    return found


def tasks_told(reply: httpx.Response) -> list[dict[str, Any]]:
    return [task for name, data, _ in events(reply) if name == "tasks" for task in data]


def finish(local: Factory, task_id: UUID) -> None:
    admit({Lane.IO: 10})
    local.write(local.claim(task_id), finish=completed())


def test_one_that_has_ended_is_told_whole_and_once(doors: Doors, local: Factory) -> None:
    batch_id, (good, bad) = made(local, "finished", "pending")
    assert engine.run(engine.request_cancel, [bad], by="a test")
    (name, tasks, no_id), (last, whole, event_id) = events(stream(doors, batch_id))
    assert (name, no_id, last) == ("tasks", "", "batch")
    assert [(task["task_id"], task["index"], task["status"], task["progress"]) for task in tasks] == [
        (str(good), 0, "completed", 1.0),
        (str(bad), 1, "cancelled", 0.0),
    ]
    assert whole == {
        "counts": {**dict.fromkeys(TaskStatus.values, 0), "completed": 1, "cancelled": 1},
        "progress": 1.0,
        "ended": True,
    }
    assert abs((int(event_id) >> 1) / 1000 - datetime.now(UTC).timestamp()) < 60
    assert stream(doors, batch_id, **{"last-event-id": event_id}).status_code == 204


@pytest.mark.parametrize("redis", [True, False])
def test_what_changes_is_told_until_all_have_ended(
    doors: Doors, local: Factory, settings: Any, services: dict[str, str], redis: bool
) -> None:
    settings.REDIS_URL = services["REDIS_URL"] if redis else ""
    batch_id, (first, second) = made(local, "pending", "pending")

    def work() -> None:
        admit({Lane.IO: 10})
        claims = [local.claim(task_id) for task_id in (first, second)]
        local.write(claims[0], Note(progress=0.5))
        for claim, end in zip(claims, (completed(), FAILED), strict=True):
            local.write(claim, finish=end)

    doors.once_followed(second, work)
    reply = stream(doors, batch_id)
    told = tasks_told(reply)
    assert [(task["index"], task["status"]) for task in told[:2]] == [(0, "pending"), (1, "pending")]
    ends = {task["index"]: task for task in told}
    assert (ends[0]["status"], ends[1]["status"], ends[1]["error"]) == ("completed", "failed", FAILED.error)
    for index in range(2):
        generations = [task["generation"] for task in told if task["index"] == index]
        assert generations == sorted(set(generations))
    wholes = [data for name, data, _ in events(reply) if name == "batch"]
    assert [whole["ended"] for whole in wholes] == [False] * (len(wholes) - 1) + [True]
    assert (wholes[0]["progress"], wholes[-1]["progress"]) == (0.0, 1.0)


@pytest.mark.parametrize("last", [True, False])
def test_a_rerun_is_followed_in_the_place_of_what_it_repeats(doors: Doors, local: Factory, last: bool) -> None:
    """Also where all others have ended by then, which would be the end without it."""
    batch_id, (first, second) = made(local, "pending", "pending")
    admit({Lane.IO: 10})
    local.write(local.claim(first), finish=FAILED)
    again: list[UUID] = []

    def work() -> None:
        again.append(rerun(first)[0].task_id)
        if last:
            finish(local, second)
        wait_for(lambda: _follows(doors, again[0]), timeout_s=20, what="the rerun is followed")
        if not last:
            finish(local, second)
        finish(local, again[0])

    doors.once_followed(second, work)
    reply = stream(doors, batch_id)
    of_the_place = [(task["task_id"], task["status"]) for task in tasks_told(reply) if task["index"] == 0]
    assert of_the_place[0] == (str(first), "failed")
    assert of_the_place[1] == (str(again[0]), "pending")
    assert of_the_place[-1] == (str(again[0]), "completed")
    assert events(reply)[-1][1]["counts"]["completed"] == 2


def test_who_comes_back_is_told_of_what_has_changed_since(doors: Doors, local: Factory) -> None:
    batch_id, task_ids = made(local, *["pending"] * 3)
    finish(local, task_ids[0])
    Task.objects.update(updated_at=F("updated_at") - timedelta(minutes=5))
    seen = str(2 * int(datetime.now(UTC).timestamp() * 1000))
    assert engine.run(engine.request_cancel, [task_ids[1]], by="a test")
    doors.once_followed(task_ids[2], lambda: finish(local, task_ids[2]))
    reply = stream(doors, batch_id, **{"last-event-id": seen})
    first, *_ = tasks_told(reply)
    assert (first["index"], first["status"]) == (1, "cancelled")
    assert {task["index"] for task in tasks_told(reply)} == {1, 2}
    assert events(reply)[-1][1]["counts"]["completed"] == 2


def test_what_was_run_again_and_has_ended_since_is_told(doors: Doors, local: Factory) -> None:
    batch_id, (first,) = made(local, "finished")
    (_, _, seen) = events(stream(doors, batch_id))[-1]
    finish(local, rerun(first)[0].task_id)
    assert [task["status"] for task in tasks_told(stream(doors, batch_id, **{"last-event-id": seen}))] == ["completed"]


def test_what_is_not_the_callers_is_not_there(doors: Doors, local: Factory) -> None:
    stranger = Factory(Client.objects.create(name="stranger"))
    batch_id, _ = made(stranger, "pending")
    for unknown in (batch_id, uuid4(), "x"):
        reply = doors.send("GET", f"{BATCHES}{unknown}/events/")
        assert (reply.status_code, reply.json()["detail"]) == (404, f"no batch '{unknown}'")


@pytest.mark.parametrize("last", ["x", "-1", "1.5", str(2**53 + 1), "506804601600002"])
def test_an_event_id_that_is_none_is_refused(doors: Doors, local: Factory, last: str) -> None:
    batch_id, _ = made(local, "pending")
    reply = stream(doors, batch_id, **{"last-event-id": last})
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, "Last-Event-ID")


def test_who_was_not_told_of_the_end_is(doors: Doors, local: Factory) -> None:
    """The last task may have ended, by its own clock, before it was last told of."""
    batch_id, _ = made(local, "finished")
    now = 2 * int(datetime.now(UTC).timestamp() * 1000)
    assert events(stream(doors, batch_id, **{"last-event-id": str(now)}))[-1][1]["ended"]
    assert stream(doors, batch_id, **{"last-event-id": str(now + 1)}).status_code == 204


def test_one_of_which_no_task_is_left_ends(doors: Doors, local: Factory) -> None:
    batch_id, _ = made(local)
    assert events(stream(doors, batch_id)) == []


def test_it_ends_when_its_client_is_gone_however_much_there_is_to_say(
    doors: Doors, local: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_stream, "KEEP_ALIVE_S", 0.2)
    batch_id, (task_id,) = made(local, "claimed")
    task, gone = Task.objects.get(id=task_id), threading.Event()

    async def gone_client(scope: Any) -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None: ...

        await doors.application(scope, receive, send)

    def busy() -> None:
        number = 0
        while not gone.is_set():
            number += 1
            note = Note(progress=1 - 1 / number)
            item = Write(task_id=task_id, attempt_id=task.lease_id, recorded=number - 1, records=(note,))  # type: ignore[arg-type]
            assert engine.run(engine.write, [item])[0].accepted

    path = f"{BATCHES}{batch_id}/events/"
    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": headers, "client": ("127.0.0.1", 1), "scheme": "http", "server": ("localhost", 80)}
    doors.once_followed(task_id, busy)
    try:
        doors.ask(lambda client: asyncio.wait_for(gone_client({**scope, "http_version": "1.1", "root_path": ""}), 20))
    finally:
        gone.set()
    assert Task.objects.get(id=task_id).status == "running"


# The picture ---------------------------------------------------------------------------------------------------------


def place(index: int, **fields: Any) -> PlaceRecord:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    known: dict[str, Any] = {
        "task_id": UUID(int=index),
        "status": TaskStatus.RUNNING,
        "progress": 0.5,
        "attempt": 1,
        "generation": 3,
        "error": None,
        "completed_at": None,
        "updated_at": at,
        "read_at": at,
    }
    return PlaceRecord(index=index, **{**known, **fields})


def test_what_was_told_is_not_told_again_nor_is_what_is_older() -> None:
    picture = _Picture(None)
    assert list(picture.told([place(0)]))
    for same in (place(0), place(0, generation=2)):
        assert not list(picture.told([same]))
    assert list(picture.told([place(0, generation=4)]))
    assert list(picture.told([place(0, task_id=UUID(int=9), generation=1)])), "a rerun begins at 1"


def test_many_are_told_in_parts_of_which_the_last_event_has_the_id() -> None:
    frames = list(_Picture(None).told([place(index) for index in range(TOLD_MAX + 1)]))
    assert [frame.startswith(b"id: ") for frame in frames] == [False, False, True]
    assert [len(json.loads(frame.split(b"data: ")[1])) for frame in frames[:2]] == [TOLD_MAX, 1]


def _follows(doors: Doors, task_id: UUID) -> bool:
    return doors._web is not None and doors._web.hub.follows(task_id)
