"""The client of python-a2a, which speaks 0.1, against a running server; prints what it saw as JSON.

Run by an interpreter that has it. Arguments: the address of the server.
"""

import asyncio
import json
import sys

from python_a2a import A2AClient, Message, MessageRole, Metadata, Task, TextContent

OPTIONS = "urn:a2a-task-manager:task-options:v1"


def task(**parameters):
    metadata = Metadata(custom_fields={OPTIONS: {"parameters": parameters}})
    message = Message(content=TextContent(text=""), role=MessageRole.USER, metadata=metadata)
    return Task(message=message.to_dict())


async def main(url):
    # Without this it says A2A's messages in words of its own, which only its own servers know.
    Message.enable_google_a2a_compatibility()
    Task.enable_google_a2a_compatibility()
    seen = {"asked": A2AClient(f"{url}/a2a/echo").ask("hello, world")}

    client = A2AClient(f"{url}/a2a/sleep")
    seen["card"] = client.agent_card.name
    asked = task(seconds=0.1, steps=1)
    done = await client.send_task_async(asked)
    seen["blocking"] = [done.id == asked.id, done.status.state.value, len(done.artifacts)]
    got = client.get_task(asked.id, history_length=10)
    seen["got"] = [got.id == asked.id, got.status.state.value, got.history[0]["role"]]

    asked = task(seconds=60, steps=100)
    sending = asyncio.create_task(client.send_task_async(asked))
    # It takes an error for a task with an id of its own.
    while (await asyncio.to_thread(client.get_task, asked.id)).id != asked.id:
        pass
    seen["cancelled"] = client.cancel_task(asked.id).status.state.value
    seen["ended"] = (await sending).status.state.value
    print(json.dumps(seen))  # noqa: T201


asyncio.run(main(*sys.argv[1:]))
