"""What a credential is good for, at the doors: 401, 403, and what they say (RFC 6750; A2A 1.0, section 7.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.types import Message

from tasks_app import agents
from tasks_app.a2a.extension import put_skill, skill_of
from tasks_app.agents import Skill, agent
from tasks_app.models import ApiKey, Client, Task, TaskRequest
from tests.factory import Factory
from tests.issuers import ISSUER, Issuer
from tests.protocol.doors import EXTENSION, TASKS, Doors, content, message, rest_body, with_options
from tests.protocol.test_visibility import surfaces, task_with_an_artifact

READ, WRITE = "tasks:read", "tasks:write"


@pytest.fixture(autouse=True)
def _closed(settings: Any) -> None:
    settings.A2A_OPEN_MODE = False


@pytest.fixture(autouse=True)
def _lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent, one of whose skills needs a scope."""
    monkeypatch.setattr(agents, "_registry", dict(agents.registered()))
    skills = (
        Skill(id="look", name="Look", description="Looks."),
        Skill(id="cut", name="Cut", description="Cuts.", scopes=("lab:cut",)),
    )
    agent("lab", lane="io", description="A laboratory.", skills=skills)(lambda ctx: None)


@pytest.fixture
def issuer(settings: Any) -> Iterator[Issuer]:
    with Issuer().serving() as made:
        settings.A2A_JWT_ISSUERS = made.setting()
        yield made


def key(owner: Client, *scopes: str) -> dict[str, str]:
    return {"authorization": f"Bearer {ApiKey.issue(owner, scopes=scopes)[1]}"}


def forbidden(reply: httpx.Response, needed: str) -> bool:
    """Whether it was refused for these scopes, in the way of all doors."""
    if reply.status_code != 403:
        return False
    challenge = f'Bearer realm="a2a", error="insufficient_scope", scope="{needed}"'
    assert reply.headers["www-authenticate"] == challenge
    assert (set(reply.json()), reply.json()["errors"]) == ({"detail", "errors"}, [])
    return True


def test_every_request_needs_the_scope_of_its_kind(doors: Doors, factory: Factory) -> None:
    task_id, artifact_id = task_with_an_artifact(factory)
    none, reader, writer = key(factory.owner, "x"), key(factory.owner, READ), key(factory.owner, WRITE)
    for method, path, options in surfaces(task_id, artifact_id):
        reads = method == "GET" or b"GetTask" in options.get("content", b"")
        needed, holder, other = (READ, reader, writer) if reads else (WRITE, writer, reader)
        for headers, is_refused in ((none, True), (other, True), (holder, False)):
            asked = {**options, "headers": {**options.get("headers", {}), **headers}}
            reply = doors.send(method, path, **asked)
            assert forbidden(reply, needed) is is_refused, (method, path, reply.text)
    reads_list = doors.send("GET", TASKS, headers=writer)
    assert forbidden(reads_list, READ)


def test_a_skill_needs_its_scopes_over_rest(doors: Doors, owner: Client) -> None:
    narrow, wide = key(owner, WRITE), key(owner, WRITE, "lab:cut")
    looks, cuts, any_skill = (rest_body(agent="lab", **named) for named in ({"skill": "look"}, {"skill": "cut"}, {}))
    assert doors.submit(looks).status_code == 401
    for body, headers, status in (
        (looks, narrow, 201),
        (cuts, narrow, 403),
        (any_skill, narrow, 403),
        (cuts, wide, 201),
        (any_skill, wide, 201),
    ):
        reply = doors.send("POST", TASKS, **content({**body, "message": message()}, **headers))
        assert reply.status_code == status, reply.text
        assert status == 201 or forbidden(reply, f"lab:cut {WRITE}")
    assert Task.objects.count() == 3


def test_a_skill_needs_its_scopes_over_a2a(doors: Doors, owner: Client) -> None:
    narrow = key(owner, WRITE)
    for skill, status in (("look", 200), ("cut", 403), (None, 403)):
        params = with_options(**({"skill": skill} if skill else {}))
        call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
        reply = doors.send("POST", "/a2a/lab/", **content(call, **narrow))
        assert reply.status_code == status, reply.text
    assert Task.objects.count() == 1


def test_a_skill_that_is_not_there_is_named(doors: Doors, owner: Client) -> None:
    headers = key(owner)
    reply = doors.send("POST", TASKS, **content(rest_body(agent="lab", skill="dig"), **headers))
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, "skill")
    for wrong in ("", 5, ["look"]):
        reply = doors.send("POST", TASKS, **content(rest_body(agent="lab", skill=wrong), **headers))
        assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, "skill")


def test_what_the_agent_reads_is_what_was_checked(doors: Doors, owner: Client) -> None:
    """Over REST the skill is a field: what the message says beside it never counts."""
    narrow = key(owner, WRITE)
    sneaks: list[dict[str, Any]] = [{"skill": "cut"}, {"skill": "cut", "priority": "low"}, {"skill": ["cut"]}, {}]
    for said in sneaks:
        body = rest_body(agent="lab", skill="look", message=message(metadata={EXTENSION: said, "mine": "stays"}))
        made = doors.send("POST", TASKS, **content(body, **narrow)).json()
        stored = Message.FromString(bytes(Task.objects.get(id=made["id"]).request.message))
        assert skill_of(stored) == "look"
        assert stored.metadata["mine"] == "stays"
    body = rest_body(agent="echo", message=message(metadata={EXTENSION: {"skill": "cut"}}))
    made = doors.send("POST", TASKS, **content(body, **narrow)).json()
    assert skill_of(Message.FromString(bytes(Task.objects.get(id=made["id"]).request.message))) == ""


def test_a_rerun_needs_what_its_task_needed(doors: Doors, factory: Factory) -> None:
    ended = factory.finished(agent="lab")
    path = f"{TASKS}{ended}/rerun/"
    assert forbidden(doors.send("POST", path, headers=key(factory.owner, WRITE)), f"lab:cut {WRITE}")
    assert doors.send("POST", path, headers=key(factory.owner, WRITE, "lab:cut")).status_code == 201
    asked = Message.FromString(bytes(Task.objects.get(id=ended).request.message))
    for skill, status in (("look", 201), ("gone", 409)):
        put_skill(asked, skill)
        TaskRequest.objects.filter(task_id=ended).update(message=asked.SerializeToString())
        assert doors.send("POST", path, headers=key(factory.owner, WRITE)).status_code == status


def test_a_token_opens_both_doors_and_its_scopes_count(doors: Doors, issuer: Issuer) -> None:
    bearer = {"authorization": f"Bearer {issuer.token(scope=f'{READ} {WRITE}')}"}
    made = doors.send("POST", TASKS, peer="10.0.0.1", **content(rest_body(), **bearer)).json()
    assert made["client"] == "login:alice"
    call = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": made["id"]}}
    assert doors.send("POST", "/a2a/echo/", **content(call, **bearer)).json()["result"]["id"] == made["id"]
    assert issuer.asked == 1
    weak = {"authorization": f"Bearer {issuer.token(scope='openid profile')}"}
    assert forbidden(doors.send("GET", TASKS, headers=weak), READ)
    other = {"authorization": f"Bearer {issuer.token(sub='bob', scope=READ)}"}
    assert doors.send("GET", f"{TASKS}{made['id']}/", headers=other).status_code == 404


def test_a_bad_token_is_challenged_with_the_reason(doors: Doors, issuer: Issuer) -> None:
    for token, why in ((issuer.token(exp=1), "has expired"), (Issuer().token(), "not accepted")):
        for method, path in (("GET", TASKS), ("POST", "/a2a/echo/"), ("GET", f"{TASKS}{uuid4()}/events/")):
            reply = doors.send(method, path, **content({}, authorization=f"Bearer {token}"))
            assert reply.status_code == 401
            assert 'error="invalid_token"' in reply.headers["www-authenticate"]
            assert why in reply.headers["www-authenticate"]
            assert why in reply.json()["detail"]


def test_a_token_clients_rate_is_kept(doors: Doors, issuer: Issuer, settings: Any) -> None:
    settings.REDIS_URL = ""
    Client.objects.create(name="slow", issuer=ISSUER, subject="alice", submit_rate_per_s=1 / 60)
    bearer = {"authorization": f"Bearer {issuer.token(scope=WRITE)}"}
    replies = [doors.send("POST", TASKS, **content(rest_body(), **bearer)) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [201, 429]
