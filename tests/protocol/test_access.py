"""Who may call what, over the three bindings (A2A 1.0, sections 3.2.6, 3.3.2, 7 and 13)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from a2a.types import a2a_pb2

from tasks_app import agents
from tasks_app.agents import AgentSpec, Extension, Skill
from tasks_app.models import ApiKey, Client
from tasks_app.status import Lane, TaskStatus
from tests.factory import Factory
from tests.protocol.bindings import SERVICE, STREAMING, VERSION, Binding, Refused, over_grpc
from tests.protocol.doors import EXTENSION, Doors, message, nothing_left

IMMEDIATELY = {"configuration": {"returnImmediately": True}}
SAFETY = "https://lab.example/safety/v1"
#: Answers by binding to a credential that is none, and to one that may not.
CODES = {"jsonrpc": (401, 403), "rest": (401, 403), "grpc": ("UNAUTHENTICATED", "PERMISSION_DENIED")}


@pytest.fixture(autouse=True)
def _closed(settings: Any) -> None:
    settings.A2A_OPEN_MODE = False


@pytest.fixture
def lab() -> Iterator[AgentSpec]:
    """An agent that requires an extension, and has a skill that not everybody may ask for."""
    spec = AgentSpec(
        name="lab",
        handler=lambda ctx: None,
        lane=Lane.IO,
        description="A laboratory.",
        skills=(
            Skill(id="look", name="Look", description="Looks."),
            Skill(id="cut", name="Cut", description="Cuts.", scopes=("lab:cut",)),
        ),
        extended_skills=(Skill(id="burn", name="Burn", description="Burns.", scopes=("lab:burn",)),),
        extensions=(Extension(uri=SAFETY, required=True),),
    )
    agents._registry["lab"] = spec
    yield spec
    del agents._registry["lab"]


def key(client: Client, *scopes: str) -> dict[str, str]:
    return {"authorization": f"Bearer {ApiKey.issue(client, scopes=list(scopes))[1]}"}


def skill(name: str) -> dict[str, Any]:
    return {"message": message(metadata={EXTENSION: {"skill": name}}), **IMMEDIATELY}


def calls(task_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Every operation, of this task where it names one."""
    return [
        ("SendMessage", {"message": message(taskId=task_id), **IMMEDIATELY}),
        ("SendStreamingMessage", {"message": message(taskId=task_id)}),
        ("GetTask", {"id": task_id}),
        ("ListTasks", {}),
        ("CancelTask", {"id": task_id}),
        ("SubscribeToTask", {"id": task_id}),
        ("GetExtendedAgentCard", {}),
    ]


def refused(binding: Binding, method: str, params: dict[str, Any], **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        (binding.stream if method in STREAMING else binding.call)(method, params, **options)
    return caught.value


def test_without_a_credential_every_operation_is_challenged(binding: Binding, factory: Factory) -> None:
    task_id = str(factory.pending())
    with nothing_left():
        for method, params in calls(task_id):
            for headers in ({}, {"authorization": "Bearer a2a_no_key"}, {"x_api_key": "x"}):
                error = refused(binding, method, params, **headers)
                assert error.code == CODES[binding.name][0]
                assert error.headers["www-authenticate"].startswith("Bearer")


def test_another_clients_task_looks_like_none(binding: Binding, factory: Factory) -> None:
    """DESIGN 9.7."""
    stranger = key(Client.objects.create(name="stranger"))
    other, none = str(factory.in_state(TaskStatus.INPUT_REQUIRED)), "0199b3b4-0000-7000-8000-000000000000"
    with nothing_left():
        assert binding.call("ListTasks", {}, **stranger).get("tasks", []) == []
        named = [call for call in calls(other) if call[1] and call[0] != "ListTasks"]
        for (method, params), (_, same) in zip(named, [c for c in calls(none) if c[1]], strict=True):
            theirs, nobodys = (refused(binding, method, asked, **stranger) for asked in (params, same))
            assert (theirs.code, theirs.reason) == (nobodys.code, nobodys.reason)
            assert theirs.message.replace(other, "") == nobodys.message.replace(none, "")
            assert theirs.reason == "TASK_NOT_FOUND"


def test_a_credential_that_may_only_read_changes_nothing(binding: Binding, factory: Factory) -> None:
    task_id = str(factory.in_state(TaskStatus.INPUT_REQUIRED))
    reader = key(factory.owner, "tasks:read")
    assert binding.call("GetTask", {"id": task_id}, **reader)["id"] == task_id
    assert len(binding.call("ListTasks", {}, **reader)["tasks"]) == 1
    with nothing_left():
        for method, params in calls(task_id):
            if method in ("SendMessage", "SendStreamingMessage", "CancelTask"):
                error = refused(binding, method, params, **reader)
                assert error.code == CODES[binding.name][1]
                assert "tasks:write" in error.headers["www-authenticate"]


def test_a_skill_is_asked_for_by_who_holds_its_scopes(binding: Binding, factory: Factory, lab: AgentSpec) -> None:
    said = {"agent": "lab", "a2a_extensions": SAFETY}
    for scopes, asked, may in (
        (("tasks:write",), "look", True),
        (("tasks:write",), "cut", False),
        (("tasks:write",), "", False),  # the agent could do either
        (("tasks:write", "lab:cut"), "cut", True),
        (("tasks:write", "lab:cut", "lab:burn"), "", True),
    ):
        headers = {**said, **key(factory.owner, *scopes)}
        params = skill(asked) if asked else {"message": message(), **IMMEDIATELY}
        if may:
            assert binding.call("SendMessage", params, **headers)["task"]["id"]
        else:
            assert refused(binding, "SendMessage", params, **headers).code == CODES[binding.name][1]


def test_an_extension_that_an_agent_requires_must_be_asked_for(
    binding: Binding, factory: Factory, lab: AgentSpec
) -> None:
    mine = key(factory.owner)
    with nothing_left():
        for headers in ({}, {"a2a_extensions": "urn:other"}):
            error = refused(
                binding, "SendMessage", {"message": message(), **IMMEDIATELY}, agent="lab", **headers, **mine
            )
            assert error.reason == "EXTENSION_SUPPORT_REQUIRED"
            assert SAFETY in error.message
    asked = {"a2a_extensions": f"urn:other, {SAFETY}"}
    assert binding.call("SendMessage", {"message": message(), **IMMEDIATELY}, agent="lab", **asked, **mine)["task"]


def test_an_answer_names_the_extensions_that_hold(doors: Doors, factory: Factory, lab: AgentSpec) -> None:
    said = {"message": message(), **IMMEDIATELY}
    headers = {"a2a-version": "1.0", "a2a-extensions": f"{SAFETY},{EXTENSION},urn:other", **key(factory.owner)}
    for path, body in (
        ("/a2a/lab/", {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": said}),
        ("/a2a/lab/message:send", said),
        (f"/a2a/lab/tasks/{factory.pending(agent='lab')}:cancel", {}),
    ):
        reply = doors.send("POST", path, json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        assert set(reply.headers["a2a-extensions"].replace(" ", "").split(",")) == {SAFETY, EXTENSION}


def test_the_extended_card_shows_what_its_caller_may_ask_for(
    binding: Binding, factory: Factory, lab: AgentSpec
) -> None:
    """Sections 3.1.11 and 13.3."""
    said = {"agent": "lab", "a2a_extensions": SAFETY}

    def shown(*scopes: str) -> list[str]:
        card = binding.call("GetExtendedAgentCard", {}, **said, **key(factory.owner, *scopes))
        return [each["id"] for each in card["skills"]]

    assert shown("tasks:read") == ["look", "cut"]
    assert shown("tasks:read", "lab:burn") == ["look", "cut", "burn"]
    error = refused(binding, "GetExtendedAgentCard", {}, **key(factory.owner))
    assert error.reason == "UNSUPPORTED_OPERATION"


def test_the_extended_card_is_kept_by_its_callers_cache_only(doors: Doors, factory: Factory, lab: AgentSpec) -> None:
    """Section 13.3."""
    headers = {"a2a-version": "1.0", "a2a-extensions": SAFETY, **key(factory.owner)}
    reply = doors.send("GET", "/a2a/lab/extendedAgentCard", headers=headers)
    assert (reply.status_code, reply.headers["cache-control"]) == (200, "private, max-age=300")
    assert reply.headers["vary"] == "Authorization, X-API-Key"
    refused_one = doors.send("GET", "/a2a/lab/extendedAgentCard", headers={"a2a-version": "1.0"})
    assert (refused_one.status_code, "cache-control" in refused_one.headers) == (401, False)


def test_who_was_refused_is_logged_without_the_credential(
    doors: Doors, factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    """Section 13.4."""
    version, wrong, reader = {"a2a-version": "1.0"}, {"x-api-key": "a2a_0123_s3cret"}, key(factory.owner, "tasks:read")
    assert doors.send("GET", "/a2a/echo/tasks", headers=version | wrong).status_code == 401
    task = f"/a2a/echo/tasks/{factory.pending()}"
    assert doors.send("POST", f"{task}:cancel", headers=version | reader).status_code == 403
    assert [record.getMessage() for record in caplog.records if record.name == "tasks_app.authentication"] == [
        "refused a request from 127.0.0.1: the API key is unknown, expired or revoked",
        f"refused a request of the client {factory.owner.name}: the credential lacks tasks:write",
    ]
    assert "s3cret" not in caplog.text
    assert reader["authorization"].rpartition("_")[2] not in caplog.text


@pytest.mark.parametrize("metadata", [{}, {"authorization": "Bearer a2a_0_0"}])
def test_over_grpc_nothing_is_made_of_a_request_before_it_is_known_whose(
    doors: Doors, metadata: dict[str, str]
) -> None:
    assert grpc_code(doors, b"\xff no message", **metadata) == "UNAUTHENTICATED"


def test_a_number_that_json_has_not_is_refused_over_grpc(doors: Doors, owner: Client) -> None:
    request = a2a_pb2.SendMessageRequest(tenant="echo")
    request.message.message_id, request.message.role = "m", a2a_pb2.ROLE_USER
    request.message.parts.add(text="x")
    request.metadata["much"] = math.nan
    with nothing_left():
        assert grpc_code(doors, request.SerializeToString(), **key(owner)) == "INVALID_ARGUMENT"
        assert grpc_code(doors, b"\xff no message", **key(owner)) == "INVALID_ARGUMENT"


def grpc_code(doors: Doors, request: bytes, **metadata: str) -> str:
    """What these bytes are refused with."""

    async def ask(channel: grpc.aio.Channel) -> None:
        await channel.unary_unary(f"/{SERVICE.full_name}/SendMessage")(
            request, metadata=tuple((VERSION | metadata).items()), timeout=30
        )

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        doors.ask(lambda _: over_grpc(ask))
    return str(caught.value.code().name)
