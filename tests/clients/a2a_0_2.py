"""The client of a2a-sdk 0.2 against a running server; prints what it saw as JSON. Run by an interpreter that has it.

Arguments: the address of the server.
"""

import asyncio
import json
import sys
from uuid import uuid4

import httpx
from a2a.client import A2ACardResolver, A2AClient
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    MessageSendParams,
    SendMessageRequest,
    SendStreamingMessageRequest,
    TaskIdParams,
    TaskQueryParams,
)

OPTIONS = "urn:a2a-task-manager:task-options:v1"


def params(text, configuration=None, **more):
    parts = [{"kind": "text", "text": text}]
    message = {"messageId": str(uuid4()), "role": "user", "parts": parts, **more}
    return MessageSendParams(message=message, configuration=configuration)


def options(**parameters):
    return {OPTIONS: {"parameters": parameters}}


def call_id():
    return str(uuid4())


async def main(url):
    async with httpx.AsyncClient(timeout=30) as http:
        # 0.2 looks for it at /.well-known/agent.json
        card = await A2ACardResolver(http, f"{url}/a2a/sleep").get_agent_card()
        client, seen = A2AClient(http, agent_card=card), {}

        asked = params("", metadata=options(seconds=0.1, steps=1))
        reply = await client.send_message(SendMessageRequest(id=call_id(), params=asked))
        task = reply.root.result
        seen["blocking"] = [task.status.state.value, len(task.artifacts)]
        reply = await client.get_task(GetTaskRequest(id=call_id(), params=TaskQueryParams(id=task.id)))
        seen["history"] = [said.role.value for said in reply.root.result.history]
        reply = await client.get_task(GetTaskRequest(id=call_id(), params=TaskQueryParams(id=str(uuid4()))))
        seen["missing"] = reply.root.error.code

        asked = params("", metadata=options(seconds=0.3, steps=3))
        request = SendStreamingMessageRequest(id=call_id(), params=asked)
        events = [event.root.result async for event in client.send_message_streaming(request)]
        seen["stream"] = [event.kind for event in events]
        seen["final"] = [event.final for event in events if event.kind == "status-update"]

        now = {"blocking": False, "acceptedOutputModes": ["text/plain"]}
        asked = params("", now, metadata=options(seconds=60, steps=100))
        task = (await client.send_message(SendMessageRequest(id=call_id(), params=asked))).root.result
        seen["at once"] = task.status.state.value
        for name in ("cancelled", "cancelled again"):
            reply = await client.cancel_task(CancelTaskRequest(id=call_id(), params=TaskIdParams(id=task.id)))
            answer = reply.root
            seen[name] = answer.result.status.state.value if hasattr(answer, "result") else answer.error.code

        client = A2AClient(http, url=f"{url}/a2a/converses-io/")
        task = (await client.send_message(SendMessageRequest(id=call_id(), params=params("hello")))).root.result
        seen["asks"] = task.status.state.value
        asked = params("yes", taskId=task.id, contextId=task.contextId)
        task = (await client.send_message(SendMessageRequest(id=call_id(), params=asked))).root.result
        seen["answered"] = [task.status.state.value, len(task.history)]
    print(json.dumps(seen))  # noqa: T201


asyncio.run(main(*sys.argv[1:]))
