"""Clients of A2A 0.1, 0.2 and 0.3 that are not ours, each in an environment of its own, against the running stack."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import CancelTaskRequest, GetTaskRequest, Message, Part, Role, SendMessageRequest, TaskState
from a2a.utils.errors import TaskNotCancelableError

from tests.environments import CLIENTS, printed, python
from tests.live import Live

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


def run(version: str, *arguments: str) -> dict[str, Any]:
    """What the script of this version's client saw."""
    return printed(
        python(CLIENTS / f"requirements-{version}.txt"), CLIENTS / f"a2a_{version.replace('.', '_')}.py", *arguments
    )


def check(seen: dict[str, Any]) -> None:
    """What both versions see alike."""
    assert seen["blocking"] == ["completed", 1]
    assert seen["history"][0] == "user"
    assert seen["final"] == [False] * (len(seen["final"]) - 1) + [True]
    assert len(seen["final"]) >= 4  # working, the three steps or some of them at once, completed
    assert (seen["at once"], seen["cancelled"]) == ("submitted", "canceled")


@pytest.mark.parametrize("transport", ["JSONRPC", "HTTP+JSON"])
def test_a_client_of_0_3_completes_streams_cancels_and_follows_up(live: Live, transport: str) -> None:
    seen = run("0.3", live.stack.url, transport)
    check(seen)
    assert (seen["ended"], seen["resubscribed"]) == ("completed", "canceled")
    assert (seen["asks"], seen["answered"]) == ("input-required", ["completed", 3])
    codes = {"JSONRPC": ("-32001", "-32002"), "HTTP+JSON": ("404", "400")}[transport]
    assert codes[0] in seen["missing"]
    assert codes[1] in seen["cancelled again"]


def test_a_client_of_0_3_does_so_over_grpc(live: Live, grpc_address: str) -> None:
    seen = run("0.3", live.stack.url, "GRPC", grpc_address)
    check(seen)
    assert "TaskNotFoundError: " in seen["missing"]
    assert "TaskNotCancelableError: " in seen["cancelled again"]


def test_a_client_of_0_2_does_too(live: Live) -> None:
    seen = run("0.2", live.stack.url)
    check(seen)
    assert (seen["missing"], seen["cancelled again"]) == (-32001, -32002)
    assert (seen["asks"], seen["answered"]) == ("input-required", ["completed", 3])


def test_the_client_of_python_a2a_completes_gets_and_cancels(live: Live) -> None:
    seen = run("0.1", live.stack.url)
    assert seen["asked"] == "hello, world"
    assert seen["card"] == "sleep"
    assert seen["blocking"] == [True, "completed", 1]
    assert seen["got"] == [True, "completed", "user"]
    assert (seen["cancelled"], seen["ended"]) == ("canceled", "canceled")


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_a_client_of_1_0_speaks_0_3_where_a_card_offers_nothing_newer(live: Live, binding: str) -> None:
    """By the SDK's transports of 0.3, which it chooses by the card."""
    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, f"{live.stack.url}/a2a/echo").get_agent_card()
        old = [
            each
            for each in card.supported_interfaces
            if (each.protocol_version, each.protocol_binding) == ("0.3", binding)
        ]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(old)
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding])
        client = ClientFactory(config).create(card)
        message = Message(message_id=str(uuid4()), role=Role.ROLE_USER, parts=[Part(text="hello")])
        events = [event async for event in client.send_message(SendMessageRequest(message=message))]
        task_id = events[0].task.id
        assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
        task = await client.get_task(GetTaskRequest(id=task_id))
        assert [part.text for artifact in task.artifacts for part in artifact.parts] == ["hello"]
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(CancelTaskRequest(id=task_id))
