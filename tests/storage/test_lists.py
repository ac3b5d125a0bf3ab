"""What REST says of artifacts: lists, versions of one name, parts, where they stand; and types that are sniffed."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings

from tasks_app.agents import agent
from tasks_app.models import Client
from tests.protocol.doors import Doors
from tests.protocol.test_access import key
from tests.receivers import receiver
from tests.storage.test_files import message
from workers.testing import one_process

pytestmark = pytest.mark.django_db(transaction=True)
ARTIFACTS = "/api/v1/artifacts/"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


@agent("pages", lane="io", description="Makes three pages of one name, and a lie.")
async def pages(ctx: Any) -> str:
    for number in range(3):
        ctx.artifact(b"x" * (1000 if number else 100_000), name="page", filename=f"{number}.bin")
    ctx.artifact(PNG, name="picture", media_type="image/png")
    ctx.artifact(b"<html><script>alert(1)</script>", name="lie", media_type="image/png")
    return "done"


@agent("fetches", lane="io", description="Fetches what is at a URL.", takes_urls=True, max_attempts=1)
async def fetches(ctx: Any) -> str:
    with await asyncio.to_thread(ctx.open, ctx.message.parts[0]) as file:
        return str(file.read().decode())


def test_artifacts_of_one_name_are_versions_of_it(doors: Doors) -> None:
    with one_process() as system:
        task = system.run("pages")
    assert task["status"] == "completed", task
    listed = doors.send("GET", ARTIFACTS, params={"task_id": task["id"], "name": "page"}).json()["results"]
    assert [(each["artifact_id"], each["version"], each["size_bytes"]) for each in listed] == [
        ("page-3", 3, 1000),
        ("page-2", 2, 1000),
        ("page", 1, 100_000),
    ]
    assert {each["task_id"] for each in listed} == {task["id"]}
    first = doors.send("GET", f"{ARTIFACTS}{listed[-1]['id']}/").json()
    part = {"kind": "raw", "media_type": "application/octet-stream", "size_bytes": 100_000, "metadata": None}
    assert (first["parts"], first["storage"]) == ([{**part, "filename": "0.bin"}], ["database"])
    last = doors.send("GET", f"{ARTIFACTS}{listed[0]['id']}/").json()
    assert last["storage"] == ["row"]
    every = doors.send("GET", ARTIFACTS, params={"task_id": task["id"]}).json()["results"]
    assert {each["name"]: each["type"] for each in every} == {
        "page": "application/octet-stream",
        "picture": "image/png",
        "lie": "text/html",
        "result": "text/plain",
    }
    lie = next(each for each in every if each["name"] == "lie")
    served = doors.send("GET", lie["content_url"]).headers
    assert (served["content-type"].partition(";")[0], served["content-disposition"].partition(";")[0]) == (
        "text/html",
        "attachment",
    )


@pytest.mark.parametrize(
    ("params", "field"),
    [({}, "task_id"), ({"task_id": "x"}, "task_id"), ({"task_id": str(uuid4()), "x": "y"}, "x")],
)
def test_a_list_of_no_task_says_what_it_lacks(doors: Doors, params: dict[str, str], field: str) -> None:
    reply = doors.send("GET", ARTIFACTS, params=params)
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, field)


def test_another_clients_artifacts_are_none(doors: Doors) -> None:
    with one_process() as system:
        task = system.run("pages")
    other = key(Client.objects.create(name="other"))
    assert doors.send("GET", ARTIFACTS, params={"task_id": task["id"]}, headers=other).json()["results"] == []


@pytest.mark.parametrize(("path", "status"), [("/a2a/imaging/message:send", 400), ("/api/v1/tasks/", 415)])
def test_a_part_that_is_plainly_something_else_is_refused(doors: Doors, path: str, status: int) -> None:
    lie = {"raw": "PGh0bWw+PHNjcmlwdD4=", "mediaType": "image/png"}
    body = {"agent": "imaging", "message": message(lie)} if "api" in path else {"message": message(lie)}
    reply = doors.send("POST", path, json=body, headers={"A2A-Version": "1.0"})
    assert reply.status_code == status
    assert "message.parts[0].mediaType" in reply.text
    assert "says image/png, and the bytes are text/html" in reply.text


def test_a_handler_opens_what_is_at_a_clients_url(doors: Doors, settings: Settings) -> None:
    settings.A2A_FETCH_ALLOWED = ["127.0.0.1"]
    with receiver() as there, one_process() as system:
        there.reply = lambda request: (200, {}, b"from elsewhere")
        ids = []
        for url in (there.url, "http://127.0.0.2/x"):
            body = {"agent": "fetches", "message": message({"url": url})}
            ids.append(doors.send("POST", "/api/v1/tasks/", json=body).json()["id"])
        fetched, refused = (system.ended(task_id) for task_id in ids)
    assert doors.send("GET", fetched["artifacts"][0]["content_url"]).text == "from elsewhere"
    assert (refused["status"], refused["error"]["code"]) == ("failed", "fetch_failed")
    assert "127.0.0.2, which is not a public address" in refused["error"]["message"]
