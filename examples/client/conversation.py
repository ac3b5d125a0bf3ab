"""One task, from its client's side, over the a2a-sdk's client. Prints nothing by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
from a2a.client import ClientConfig, create_client
from a2a.client.client import Client
from a2a.helpers import get_message_text
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    TaskState,
    TaskStatus,
)
from google.protobuf.json_format import MessageToDict

#: The extension of A2A that carries what a message has no field for.
TASK_OPTIONS = "urn:a2a-task-manager:task-options:v1"
#: A server sends a comment every 15 seconds where nothing happens: silence for longer is a broken connection.
TIMEOUT = httpx.Timeout(10, read=45)


class Conversation:
    """What is said to one agent about one task.

    ``tell`` is called with each line about the work under way. What goes wrong raises A2AError.
    """

    def __init__(self, address: str, *, api_key: str = "", task_id: str = "", tell: Callable[[str], None]) -> None:
        self.task_id = task_id
        #: As the agent said last. Unspecified if it has said nothing, or answered by a message without a task.
        self.status = TaskStatus()
        self.reply: Message | None = None
        self._address = address
        self._tell = tell
        self._http = httpx.AsyncClient(
            timeout=TIMEOUT, headers={"Authorization": f"Bearer {api_key}"} if api_key else {}
        )
        self._client: Client | None = None

    async def connect(self) -> None:
        """Finds by its card how the agent is spoken to. Raises AgentCardResolutionError."""
        self._client = await create_client(self._address, client_config=ClientConfig(httpx_client=self._http))

    async def say(self, text: str, **options: Any) -> None:
        """Sends a message and listens until the task has ended or asks; ``options`` are those of a new task."""
        said = Message(message_id=str(uuid4()), task_id=self.task_id, role=Role.ROLE_USER, parts=[Part(text=text)])
        if options:
            said.metadata.update({TASK_OPTIONS: options})
        async for event in self._connected.send_message(SendMessageRequest(message=said)):
            self._hear(event)

    async def answer(self) -> list[str]:
        """What the task has to show: the contents of its artifacts, and what the agent said last."""
        if self.reply is not None:
            return [get_message_text(self.reply)]
        task = await self._connected.get_task(GetTaskRequest(id=self.task_id, history_length=0))
        # An artifact that was sent in pieces has a part for each.
        artifacts = ["".join(map(_shown, artifact.parts)) for artifact in task.artifacts]
        return [text.rstrip("\n") for text in (*artifacts, *_said(task.status)) if text]

    async def cancel(self) -> None:
        await self._connected.cancel_task(CancelTaskRequest(id=self.task_id))

    async def close(self) -> None:
        await self._http.aclose()

    @property
    def _connected(self) -> Client:
        if self._client is None:
            raise RuntimeError("connect() was not awaited")
        return self._client

    def _hear(self, event: StreamResponse) -> None:
        if event.HasField("message"):
            self.reply = event.message
        elif event.HasField("task"):
            self.task_id = event.task.id
            self._now(event.task.status)
        elif event.HasField("status_update"):
            progress = MessageToDict(event.status_update.metadata).get("progress", 0)
            self._now(event.status_update.status, f" {progress:.0%}" if progress else "")

    def _now(self, status: TaskStatus, more: str = "") -> None:
        self.status = status
        name = TaskState.Name(status.state).removeprefix("TASK_STATE_").lower().replace("_", " ")
        self._tell(": ".join([name + more, *_said(status)]))


def _said(status: TaskStatus) -> Iterator[str]:
    if status.HasField("message"):
        yield get_message_text(status.message)


def _shown(part: Part) -> str:
    """A part as a terminal can show it."""
    match part.WhichOneof("content"):
        case "data":
            return json.dumps(MessageToDict(part.data), ensure_ascii=False)
        case "raw":
            return f"[{part.filename or 'file'}: {len(part.raw)} bytes of {part.media_type}]"
        case "url":
            return part.url
    return part.text
