"""Another client's task looks exactly like one that does not exist, on every surface (DESIGN 9.7); and who may ask."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from django.apps import apps
from django.utils import timezone

from artifacts_app.models import Artifact
from tasks_app import authentication
from tasks_app.engine import ArtifactRecord, Chunk
from tasks_app.models import ApiKey, Client, Task
from tests.factory import Factory
from tests.protocol.doors import TASKS, Doors, content, message, rest_body

CHALLENGE = 'Bearer realm="a2a"'


@pytest.fixture(autouse=True)
def _closed(settings: Any) -> None:
    settings.A2A_OPEN_MODE = False


def key_of(client: Client) -> dict[str, str]:
    return {"authorization": f"Bearer {ApiKey.issue(client)[1]}"}


@pytest.fixture
def owner_key(owner: Client) -> dict[str, str]:
    return key_of(owner)


@pytest.fixture
def stranger_key(transactional_db: None) -> dict[str, str]:
    return key_of(Client.objects.create(name="stranger"))


def surfaces(task_id: UUID | str, artifact_id: UUID | str) -> list[tuple[str, str, dict[str, Any]]]:
    """Every request that names a task or what is its."""
    calls: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": str(task_id)}}
        for method in ("GetTask", "CancelTask")
    ]
    follow_up = {"message": message(messageId="m", taskId=str(task_id))}
    calls.append({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": follow_up})
    return [
        ("GET", f"{TASKS}{task_id}/", {}),
        ("POST", f"{TASKS}{task_id}/cancel/", {}),
        ("GET", f"{TASKS}{task_id}/events/", {}),
        ("GET", f"{TASKS}{task_id}/?status=completed", {}),
        ("GET", f"/api/v1/artifacts/{artifact_id}/content", {}),
        ("POST", TASKS, content(rest_body(message=follow_up["message"]))),
        *[("POST", "/a2a/echo/", content(call)) for call in calls],
        ("POST", f"{TASKS}{task_id}/rerun/", {}),
        ("PATCH", f"{TASKS}{task_id}/", content({"priority": "low"})),
    ]


def look(doors: Doors, key: dict[str, str], request: tuple[str, str, dict[str, Any]]) -> httpx.Response:
    method, path, options = request
    return doors.send(method, path, **{**options, "headers": {**options.get("headers", {}), **key}})


def shape(reply: httpx.Response, *ids: UUID) -> tuple[Any, ...]:
    """All that an answer tells, but for the ids that were asked for."""
    text = reply.text
    for known in ids:
        text = text.replace(str(known), "ID")
    headers = {name: value for name, value in reply.headers.items() if name not in ("content-length", "date")}
    return reply.status_code, text, headers


def task_with_an_artifact(factory: Factory) -> tuple[UUID, UUID]:
    claim = factory.claimed()
    record = ArtifactRecord(
        artifact_id="a", name="a", chunks=(Chunk(kind="text", content=b"x", media_type="text/plain"),), event=b""
    )
    assert factory.write(claim, record).accepted
    return claim.task_id, Artifact.objects.get(task_id=claim.task_id).id


def test_another_clients_task_looks_like_none_on_every_surface(
    doors: Doors, factory: Factory, owner_key: dict[str, str], stranger_key: dict[str, str]
) -> None:
    task_id, artifact_id = task_with_an_artifact(factory)
    nowhere = uuid4()
    before = Task.objects.values().get(id=task_id)
    for theirs, none in zip(surfaces(task_id, artifact_id), surfaces(nowhere, nowhere), strict=True):
        seen = shape(look(doors, stranger_key, theirs), task_id, artifact_id)
        unseen = shape(look(doors, stranger_key, none), nowhere)
        assert seen == unseen, theirs
        assert str(task_id) not in str(seen)
    assert Task.objects.values().get(id=task_id) == before
    for own in surfaces(task_id, artifact_id)[:5:4]:
        assert look(doors, owner_key, own).status_code == 200
    assert Task.objects.count() == 1


def test_a_list_holds_the_callers_own_tasks_only(
    doors: Doors, factory: Factory, owner_key: dict[str, str], stranger_key: dict[str, str]
) -> None:
    mine = {str(factory.pending()) for _ in range(3)}
    everything = look(doors, owner_key, ("GET", TASKS, {})).json()["results"]
    assert {task["id"] for task in everything} == mine
    for query in (
        "",
        "?status=pending",
        "?agent=echo",
        "?context_id=context",
        "?priority=normal",
        "?page_size=1",
        "?dead_letters=true",
    ):
        answer = look(doors, stranger_key, ("GET", f"{TASKS}{query}", {})).json()
        assert answer == {"next": None, "previous": None, "results": []}


def test_message_ids_of_two_clients_do_not_meet(
    doors: Doors, owner_key: dict[str, str], stranger_key: dict[str, str]
) -> None:
    body = rest_body(message=message(messageId="same"))
    made = [look(doors, key, ("POST", TASKS, content(body))) for key in (owner_key, stranger_key)]
    assert [reply.status_code for reply in made] == [201, 201]
    assert made[0].json()["id"] != made[1].json()["id"]


@pytest.mark.parametrize("path", [TASKS, f"{TASKS}{uuid4()}/events/", f"/api/v1/artifacts/{uuid4()}/content"])
def test_without_a_key_every_read_is_challenged(doors: Doors, path: str) -> None:
    challenged(doors.send("GET", path))


def test_without_a_key_every_write_is_challenged_before_it_is_read(doors: Doors) -> None:
    for path in (TASKS, f"{TASKS}{uuid4()}/cancel/", "/a2a/echo/", "/a2a/echo", "/"):
        challenged(doors.send("POST", path, content=b"not even JSON", headers={"content-type": "application/json"}))
    assert not Task.objects.exists()


def challenged(reply: httpx.Response) -> None:
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith(CHALLENGE)
    assert (set(reply.json()), reply.json()["errors"]) == ({"detail", "errors"}, [])


@pytest.mark.parametrize("peer", ["10.0.0.1", "8.8.8.8", "::2", "", "localhost", "127.0.0.1.example.org"])
def test_the_open_mode_is_for_loopback_only(doors: Doors, settings: Any, peer: str) -> None:
    settings.A2A_OPEN_MODE = True
    for path in (TASKS, f"{TASKS}{uuid4()}/events/"):
        challenged(doors.send("GET", path, peer=peer))
    challenged(doors.send("POST", "/a2a/echo/", peer=peer, content=b"{}"))
    # A proxy's word for the address is not taken.
    challenged(
        doors.send("GET", TASKS, peer=peer, headers={"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"})
    )


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1"])
def test_the_open_mode_takes_loopback_for_the_client_local(doors: Doors, settings: Any, peer: str) -> None:
    settings.A2A_OPEN_MODE = True
    assert doors.send("POST", TASKS, peer=peer, **content(rest_body())).json()["client"] == "local"


def test_a_key_that_reads_like_a_loopback_address_opens_nothing(doors: Doors, settings: Any) -> None:
    settings.A2A_OPEN_MODE = True
    assert doors.send("GET", TASKS).status_code == 200
    for text in ("peer 127.0.0.1", "127.0.0.1", "peer None"):
        challenged(doors.send("GET", TASKS, peer="10.0.0.1", headers={"x-api-key": text}))
        challenged(doors.send("POST", "/a2a/echo/", peer="10.0.0.1", content=b"{}", headers={"x-api-key": text}))


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_may_come_in_either_header(doors: Doors, owner: Client, header: str) -> None:
    _, text = ApiKey.issue(owner)
    value = f"bearer {text}" if header == "authorization" else text
    headers = {header: value}
    assert doors.send("POST", TASKS, peer="10.0.0.1", **content(rest_body(), **headers)).json()["client"] == "owner"
    assert "error" in doors.send("POST", "/a2a/echo/", **content({}, **headers)).json()


@pytest.mark.parametrize("wrong", ["", "Basic", "x", "a2a_", "a2a__", "é", "a\x00b", "' OR 1=1 --", "x" * 5_000])
def test_a_wrong_key_is_challenged_even_in_the_open_mode(
    doors: Doors, settings: Any, owner: Client, wrong: str
) -> None:
    settings.A2A_OPEN_MODE = bool(wrong)
    row, text = ApiKey.issue(owner)
    for key in (wrong, f"a2a_{row.prefix}_{wrong}", text[:-1], text.upper()):
        headers = {"authorization": b"Bearer " + key.encode("latin-1")}
        challenged(doors.send("GET", TASKS, headers=headers) if key else doors.send("GET", TASKS))
        challenged(doors.send("POST", "/a2a/echo/", content=b"{}", headers=headers))


@pytest.mark.parametrize("change", ["revoked_at", "expires_at", "is_active"])
def test_a_key_that_no_longer_counts_is_challenged(doors: Doors, owner: Client, change: str) -> None:
    row, text = ApiKey.issue(owner)
    headers = {"authorization": f"Bearer {text}"}
    assert doors.send("GET", TASKS, headers=headers).status_code == 200
    if change == "is_active":
        Client.objects.filter(pk=owner.pk).update(is_active=False)
    else:
        ApiKey.objects.filter(pk=row.pk).update(**{change: timezone.now() - timedelta(seconds=1)})
    authentication.forget()
    challenged(doors.send("GET", TASKS, headers=headers))
    challenged(doors.send("POST", "/a2a/echo/", content=b"{}", headers=headers))


def test_a_key_that_will_expire_counts_until_then(doors: Doors, owner: Client) -> None:
    row, text = ApiKey.issue(owner)
    ApiKey.objects.filter(pk=row.pk).update(expires_at=timezone.now() + timedelta(minutes=1))
    assert doors.send("GET", TASKS, headers={"x-api-key": text}).status_code == 200


def test_the_secret_is_stored_nowhere(doors: Doors, owner: Client) -> None:
    _, text = ApiKey.issue(owner)
    secret = text.split("_", 2)[2]
    body = rest_body()
    assert doors.send("POST", TASKS, **content(body, authorization=f"Bearer {text}")).status_code == 201
    for model in apps.get_models():
        for row in model._default_manager.values_list():
            stored = b" ".join(
                bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode() for value in row
            )
            assert secret.encode() not in stored, model
