"""The a2a-sdk client, which is not ours, against the running stack (A2A 1.0, sections 3.1 and 9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.types import (
    AgentInterface,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskState,
)
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError

from tests.live import Live, wait_for

pytestmark = pytest.mark.services
EXTENSION = "urn:a2a-task-manager:task-options:v1"


def request(text: str = "hello", *, immediately: bool = False, **options: Any) -> SendMessageRequest:
    message = Message(message_id=str(uuid4()), role=Role.ROLE_USER, parts=[Part(text=text)])
    if options:
        message.metadata.update({EXTENSION: options})
    return SendMessageRequest(message=message, configuration=SendMessageConfiguration(return_immediately=immediately))


@asynccontextmanager
async def connect(
    live: Live, agent: str, *, streaming: bool, binding: str = "JSONRPC", grpc_address: str = ""
) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, f"{live.stack.url}/a2a/{agent}").get_agent_card()
        # The stack does not say in its cards where gRPC is.
        card.supported_interfaces.append(
            AgentInterface(url=grpc_address, protocol_binding="GRPC", protocol_version="1.0", tenant=agent)
        )
        config = ClientConfig(
            httpx_client=http,
            streaming=streaming,
            supported_protocol_bindings=[binding],
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        async with ClientFactory(config).create(card) as client:
            yield client


async def last_task(events: AsyncIterator[StreamResponse]) -> Task:
    """The task in the one answer of a call without streaming."""
    answers = [event async for event in events]
    assert [answer.WhichOneof("payload") for answer in answers] == ["task"]
    return answers[0].task


async def test_the_client_finds_the_agent_by_its_card_and_blocks_until_it_has_answered(live: Live) -> None:
    async with connect(live, "echo", streaming=False) as client:
        task = await last_task(client.send_message(request("hello, world")))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert [part.text for artifact in task.artifacts for part in artifact.parts] == ["hello, world"]
        again = await client.get_task(GetTaskRequest(id=task.id))
        assert again.status.state == TaskState.TASK_STATE_COMPLETED
        assert [message.parts[0].text for message in again.history] == ["hello, world"]
        short = await client.get_task(GetTaskRequest(id=task.id, history_length=0))
        assert not short.history


async def test_return_immediately_answers_before_the_work_is_done(live: Live) -> None:
    async with connect(live, "sleep", streaming=False) as client:
        task = await last_task(client.send_message(request(immediately=True, parameters={"seconds": 1, "steps": 2})))
        assert task.status.state == TaskState.TASK_STATE_SUBMITTED
        assert live.ended(task.id)["status"] == "completed"


async def test_a_stream_gives_the_task_and_then_every_event_in_order(live: Live) -> None:
    async with connect(live, "sleep", streaming=True) as client:
        events = [event async for event in client.send_message(request(parameters={"seconds": 1, "steps": 4}))]
    assert events[0].WhichOneof("payload") == "task"
    assert events[0].task.status.state == TaskState.TASK_STATE_SUBMITTED
    states = [event.status_update.status.state for event in events if event.HasField("status_update")]
    assert states[0] == TaskState.TASK_STATE_WORKING
    assert states[-1] == TaskState.TASK_STATE_COMPLETED
    updates = [event.status_update for event in events if event.HasField("status_update")]
    progress = [update.metadata["progress"] for update in updates]
    assert progress == sorted(progress)
    assert {0.25, 0.5, 0.75, 1.0} <= set(progress)
    assert any(event.HasField("artifact_update") for event in events)
    numbers = [
        int((event.status_update if event.HasField("status_update") else event.artifact_update).metadata["generation"])
        for event in events[1:]
    ]
    assert numbers == list(range(2, len(numbers) + 2))


@pytest.mark.parametrize("agent", ["sleep", "sleep-cpu"])
async def test_a_cancel_stops_the_running_work_in_both_lanes(live: Live, agent: str) -> None:
    async with connect(live, agent, streaming=False) as client:
        task = await last_task(client.send_message(request(immediately=True, parameters={"seconds": 60, "steps": 100})))
        live.running(task.id)
        cancelled = await client.cancel_task(CancelTaskRequest(id=task.id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(CancelTaskRequest(id=task.id))
    released = "SELECT 1 FROM tasks_app_taskattempt WHERE task_id = %s AND released_at IS NOT NULL"
    wait_for(lambda: live.sql(released, task.id), timeout_s=15, what="the handler has stopped")
    assert live.task(task.id)["attempts"][0]["outcome"] == "cancelled"


async def test_a_cancel_ends_the_stream(live: Live) -> None:
    async with connect(live, "sleep", streaming=True) as client:
        states = []
        async for event in client.send_message(request(parameters={"seconds": 60})):
            if event.HasField("task"):
                task_id = event.task.id
            elif event.HasField("status_update"):
                states.append(event.status_update.status.state)
                if states == [TaskState.TASK_STATE_WORKING]:
                    await client.cancel_task(CancelTaskRequest(id=task_id))
    assert states[-1] == TaskState.TASK_STATE_CANCELED


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON", "GRPC"])
async def test_the_client_completes_streams_cancels_and_follows_up_over_each_binding(
    live: Live, grpc_address: str, binding: str
) -> None:
    async with connect(live, "sleep", streaming=True, binding=binding, grpc_address=grpc_address) as client:
        events = [event async for event in client.send_message(request(parameters={"seconds": 0.3, "steps": 3}))]
        assert events[0].WhichOneof("payload") == "task"
        assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
        done = await client.get_task(GetTaskRequest(id=events[0].task.id))
        assert (done.status.state, len(done.artifacts)) == (TaskState.TASK_STATE_COMPLETED, 1)
    async with connect(live, "sleep", streaming=False, binding=binding, grpc_address=grpc_address) as client:
        task = await last_task(client.send_message(request(immediately=True, parameters={"seconds": 60})))
        cancelled = await client.cancel_task(CancelTaskRequest(id=task.id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
    async with connect(live, "converses-io", streaming=False, binding=binding, grpc_address=grpc_address) as client:
        asks = await last_task(client.send_message(request()))
        assert asks.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        answer = request("yes")
        answer.message.task_id, answer.message.context_id = asks.id, asks.context_id
        answered = await last_task(client.send_message(answer))
        assert (answered.id, answered.status.state) == (asks.id, TaskState.TASK_STATE_COMPLETED)
        texts = [part.text for artifact in answered.artifacts for part in artifact.parts]
        assert texts == ["turn 1", "turn 2", "which one? yes"]
        assert [said.role for said in answered.history] == [Role.ROLE_USER, Role.ROLE_AGENT, Role.ROLE_USER]


async def test_priority_and_timeout_travel_in_the_message(live: Live) -> None:
    async with connect(live, "sleep", streaming=False) as client:
        asked = request(priority="critical", timeout_s=1, parameters={"seconds": 30})
        task = await last_task(client.send_message(asked))
    assert task.status.state == TaskState.TASK_STATE_FAILED
    assert "timeout of 1 s" in task.status.message.parts[0].text
    shown = live.task(task.id)
    assert (shown["priority"], shown["timeout_s"], shown["error"]["code"]) == ("critical", 1.0, "timeout")
    assert shown["attempts"][0]["outcome"] == "timed_out"


async def test_another_agents_task_is_not_found_at_this_address(live: Live) -> None:
    task_id = live.submit("echo")
    async with connect(live, "sleep", streaming=False) as client:
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id=task_id))
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id="not-an-id"))
