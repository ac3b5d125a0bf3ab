"""Artifacts in pieces and follow-up messages, as the doors show them (A2A 1.0, sections 4.2.2 and 3.2.4)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from uuid import UUID

import pytest
from a2a.types import Artifact as WireArtifact
from a2a.types import TaskArtifactUpdateEvent

from artifacts_app.models import Artifact
from tasks_app.engine import ArtifactRecord, CheckpointRecord, Chunk
from tests.factory import Factory, asks, completed
from tests.protocol.doors import TASKS, Doors


def piece(
    kind: str, content: bytes, *, append: bool = False, last_chunk: bool = True, media_type: str = "text/plain"
) -> ArtifactRecord:
    event = TaskArtifactUpdateEvent(artifact=WireArtifact(artifact_id="log"), append=append, last_chunk=last_chunk)
    chunk = Chunk(kind=kind, content=content, media_type=media_type)
    made = ArtifactRecord(artifact_id="log", chunks=(chunk,), event=event.SerializeToString(), last_chunk=last_chunk)
    return replace(made, append=append, parts_before=int(append), bytes_before=3 * append)


def events(doors: Doors, task_id: UUID) -> list[dict[str, object]]:
    """What the REST door's stream of an ended task says."""
    reply = doors.send("GET", f"{TASKS}{task_id}/events/")
    return [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line.startswith("data: ")]


def test_an_artifact_that_came_in_pieces_is_whole_at_both_doors(doors: Doors, local: Factory) -> None:
    claim = local.claimed()
    local.write(claim, piece("text", b"one", last_chunk=False))
    shown = doors.send("GET", f"{TASKS}{claim.task_id}/").json()["artifacts"][0]
    assert (shown["size_bytes"], shown["sha256"]) == (3, None)
    local.write(claim, piece("text", b"two", append=True), finish=completed())
    shown = doors.send("GET", f"{TASKS}{claim.task_id}/").json()["artifacts"][0]
    assert (shown["size_bytes"], shown["sha256"]) == (6, hashlib.sha256(b"onetwo").hexdigest())
    assert doors.send("GET", shown["content_url"]).content == b"onetwo"
    parts = doors.call("GetTask", {"id": str(claim.task_id)})["result"]["artifacts"][0]["parts"]
    assert [part["text"] for part in parts] == ["one", "two"]
    pieces = [event for event in events(doors, claim.task_id) if event["kind"] == "artifact"]
    assert [(event["artifact_id"], event["append"], event["last_chunk"]) for event in pieces] == [
        ("log", False, False),
        ("log", True, True),
    ]


def test_a_checkpoint_is_an_event_by_its_name(doors: Doors, local: Factory) -> None:
    claim = local.claimed()
    local.write(claim, CheckpointRecord(name="half", data="{}"), finish=completed())
    said = [event for event in events(doors, claim.task_id) if event["kind"] == "checkpoint"]
    assert [(event["checkpoint"], "message" in event) for event in said] == [("half", False)]


def test_of_an_artifact_that_stands_elsewhere_the_content_is_where(doors: Doors, local: Factory) -> None:
    claim = local.claimed()
    local.write(claim, piece("url", b"https://example.org/a.png"))
    reply = doors.send("GET", f"/api/v1/artifacts/{Artifact.objects.get().id}/content")
    assert (reply.content, reply.headers["content-type"]) == (
        b"https://example.org/a.png",
        "text/uri-list; charset=utf-8",
    )
    assert reply.headers["content-disposition"].startswith("attachment")
    part = doors.call("GetTask", {"id": str(claim.task_id)})["result"]["artifacts"][0]["parts"][0]
    assert part == {"url": "https://example.org/a.png", "mediaType": "text/plain"}


@pytest.mark.parametrize("media_type", ["text/\u4e2d", "text/plain\r\nSet-Cookie: a=b", ""])
def test_content_with_a_type_that_no_header_can_hold_is_sent_as_bytes(
    doors: Doors, local: Factory, media_type: str
) -> None:
    """No such type is stored any more: it may stand in rows of before."""
    local.write(local.claimed(), piece("raw", b"42", media_type=media_type))
    reply = doors.send("GET", f"/api/v1/artifacts/{Artifact.objects.get().id}/content")
    assert (reply.status_code, reply.content) == (200, b"42")
    assert reply.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in reply.headers


def test_what_a_client_said_later_is_in_the_history(doors: Doors, local: Factory) -> None:
    task_id = local.finished(asks())
    local.deliver(task_id, "the left one")
    task = doors.call("GetTask", {"id": str(task_id)})["result"]
    assert [(said["role"], said["parts"][0]["text"]) for said in task["history"]] == [
        ("ROLE_USER", "hello"),
        ("ROLE_USER", "the left one"),
    ]
    assert (task["status"]["state"], "message" in task["status"]) == ("TASK_STATE_WORKING", False)
    assert task["metadata"]["generation"] == 4
