"""The client of a2a-sdk 0.3 against a running server; prints what it saw as JSON. Run by an interpreter that has it.

Arguments: the address of the server, one of JSONRPC, HTTP+JSON and GRPC, and for the last the address of gRPC.
"""

import asyncio
import json
import sys
from uuid import uuid4

import grpc
import httpx
from a2a.client import A2ACardResolver, A2AClientError, ClientConfig, ClientFactory
from a2a.types import (
    AgentInterface,
    Message,
    MessageSendConfiguration,
    Part,
    Role,
    TaskIdParams,
    TaskQueryParams,
    TextPart,
)

OPTIONS = "urn:a2a-task-manager:task-options:v1"


def message(text, **more):
    return Message(message_id=str(uuid4()), role=Role.user, parts=[Part(root=TextPart(text=text))], **more)


class Agent:
    """The SDK's client of one agent, over one transport."""

    def __init__(self, url, transport, grpc_url, http):
        self._url, self._transport, self._grpc_url, self._http = url, transport, grpc_url, http

    async def client(self, name, *, streaming):
        card = await A2ACardResolver(self._http, f"{self._url}/a2a/{name}").get_agent_card()
        if self._grpc_url:
            # 0.3's gRPC names no agent, so that no agent's card offers it: it is the default agent's.
            card.additional_interfaces.append(AgentInterface(transport=self._transport, url=self._grpc_url))
        config = ClientConfig(
            httpx_client=self._http,
            streaming=streaming,
            supported_transports=[self._transport],
            use_client_preference=True,
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        return ClientFactory(config).create(card)

    async def send(self, name, said, **configuration):
        """The task, of a call without streaming."""
        client = await self.client(name, streaming=False)
        more = {"configuration": MessageSendConfiguration(**configuration)} if configuration else {}
        ((task, _),) = [event async for event in client.send_message(said, **more)]
        return task


def texts(task):
    return [part.root.text for artifact in task.artifacts or [] for part in artifact.parts]


async def fails(awaitable):
    """The error's class and text."""
    try:
        await awaitable
    except (A2AClientError, grpc.aio.AioRpcError) as error:
        return f"{type(error).__name__} {error}"
    return ""


async def main(url, transport, grpc_url=None):
    async with httpx.AsyncClient(timeout=30) as http:
        agent = Agent(url, transport, grpc_url, http)
        seen = {}
        task = await agent.send("sleep", message("", metadata={OPTIONS: {"parameters": {"seconds": 0.1, "steps": 1}}}))
        seen["blocking"] = [task.status.state.value, len(task.artifacts)]
        client = await agent.client("sleep", streaming=False)
        seen["history"] = [said.role.value for said in (await client.get_task(TaskQueryParams(id=task.id))).history]
        seen["missing"] = await fails(client.get_task(TaskQueryParams(id=str(uuid4()))))

        client = await agent.client("sleep", streaming=True)
        said = message("", metadata={OPTIONS: {"parameters": {"seconds": 0.3, "steps": 3}}})
        updates = [update async for _, update in client.send_message(said)]
        seen["stream"] = [type(update).__name__ for update in updates]
        seen["final"] = [update.final for update in updates if hasattr(update, "final")]
        seen["ended"] = updates[-1].status.state.value

        said = message("", metadata={OPTIONS: {"parameters": {"seconds": 60, "steps": 100}}})
        task = await agent.send("sleep", said, blocking=False)
        seen["at once"] = task.status.state.value
        resubscribed = client.resubscribe(TaskIdParams(id=task.id))
        await anext(resubscribed)
        seen["cancelled"] = (await client.cancel_task(TaskIdParams(id=task.id))).status.state.value
        seen["resubscribed"] = [task.status.state.value async for task, _ in resubscribed][-1]
        seen["cancelled again"] = await fails(client.cancel_task(TaskIdParams(id=task.id)))

        if not grpc_url:
            task = await agent.send("converses-io", message("hello"))
            seen["asks"] = task.status.state.value
            answer = message("yes", task_id=task.id, context_id=task.context_id)
            task = await agent.send("converses-io", answer)
            seen["answered"] = [task.status.state.value, len(task.history)]
    print(json.dumps(seen))  # noqa: T201


asyncio.run(main(*sys.argv[1:]))
