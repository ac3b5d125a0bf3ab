"""Rows ↔ A2A objects. The one table of the wire's names for our states stands here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from a2a.types import (
    Artifact,
    ListTaskPushNotificationConfigsResponse,
    ListTasksResponse,
    Message,
    Part,
    Role,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
)
from a2a.types import TaskStatus as WireStatus
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from tasks_app import engine
from tasks_app.a2a.extension import URI
from tasks_app.engine import files
from tasks_app.reads import ArtifactView, EventRecord, PartRecord, TaskRecord
from tasks_app.status import TaskStatus
from tasks_app.waiting import Reason

if TYPE_CHECKING:
    from tasks_app.models import Task as TaskModel

#: A2A 1.0, section 4.1.3. Pending is SUBMITTED before the first attempt and WORKING after: see :func:`state`.
STATES: dict[TaskStatus, TaskState] = {
    TaskStatus.PENDING: TaskState.TASK_STATE_SUBMITTED,
    TaskStatus.RUNNING: TaskState.TASK_STATE_WORKING,
    TaskStatus.INPUT_REQUIRED: TaskState.TASK_STATE_INPUT_REQUIRED,
    TaskStatus.AUTH_REQUIRED: TaskState.TASK_STATE_AUTH_REQUIRED,
    TaskStatus.COMPLETED: TaskState.TASK_STATE_COMPLETED,
    TaskStatus.FAILED: TaskState.TASK_STATE_FAILED,
    TaskStatus.CANCELLED: TaskState.TASK_STATE_CANCELED,
    TaskStatus.REJECTED: TaskState.TASK_STATE_REJECTED,
}


#: The fields of a plain message, and their names in JSON.
_PLAIN = {"message_id": "messageId", "context_id": "contextId", "task_id": "taskId", "role": "role", "parts": "parts"}


def state(status: TaskStatus, *, started: bool) -> TaskState:
    """The wire's name for a state; a task that waits for another attempt is still working."""
    if status == TaskStatus.PENDING and started:
        return TaskState.TASK_STATE_WORKING
    return STATES[status]


def task(record: TaskRecord, *, history_length: int | None = None, waiting: Sequence[Reason] = ()) -> Task:
    """The A2A Task. ``history_length`` None gives all messages, 0 none, n the newest n; ``waiting`` is why it waits."""
    messages = record.messages[-history_length:] if history_length else record.messages
    if history_length == 0:
        messages = ()
    return Task(
        id=str(record.id),
        context_id=record.context_id,
        status=_status(record.status, record),
        artifacts=[artifact(view) for view in record.artifacts],
        history=[Message.FromString(data) for data in messages],
        metadata=_struct({**record.metadata, "generation": record.generation, URI: _ours(record, waiting)}),
    )


def reply(record: TaskRecord) -> Message | None:
    """The message that stands for the task, where its agent replies with messages; None unless it has completed.

    It names no task (A2A 1.0, section 3.1.1: it is the whole answer); under our extension it tells which one it was.
    """
    if record.status != TaskStatus.COMPLETED or record.status_message is None:
        return None
    message: Message = Message.FromString(record.status_message)
    message.ClearField("task_id")
    message.metadata.update({URI: {"task_id": str(record.id)}})
    return message


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A task as it stands right after it was accepted: every submit answers with it, so it is not read back.

    ``message`` is its history, None if none was asked for.
    """

    task_id: UUID
    context_id: str
    at: datetime
    metadata: dict[str, Any]
    message: Message | None

    def as_dict(self) -> dict[str, Any]:
        """The ProtoJSON of a SendMessageResponse or a StreamResponse, written out without building protobuf first."""
        status = {
            "state": "TASK_STATE_SUBMITTED",
            "timestamp": self.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
        metadata = {**self.metadata, "generation": 1}
        task = {"id": str(self.task_id), "contextId": self.context_id, "status": status, "metadata": metadata}
        return {"task": task if self.message is None else {**task, "history": [_said(self.message)]}}

    def task(self) -> Task:
        """The A2A Task."""
        status = WireStatus(state=TaskState.TASK_STATE_SUBMITTED, timestamp=_timestamp(self.at))
        return Task(
            id=str(self.task_id),
            context_id=self.context_id,
            status=status,
            history=[] if self.message is None else [self.message],
            metadata=_struct({**self.metadata, "generation": 1}),
        )


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the log as a stream sends it. Made into JSON once for all who follow the task."""

    record: EventRecord
    context_id: str

    def json(self) -> bytes:
        """The ProtoJSON of its StreamResponse."""
        shown = self.record.shown
        if "json" not in shown:
            shown["json"] = orjson.dumps(as_dict(self.proto()))
        return shown["json"]

    def proto(self) -> StreamResponse:
        return event(self.record, context_id=self.context_id)


def event(record: EventRecord, *, context_id: str) -> StreamResponse:
    """The A2A stream event of a row of the log."""
    metadata = _struct({"generation": record.generation, "progress": record.progress, "attempt": record.attempt})
    if record.kind == "artifact":
        update = TaskArtifactUpdateEvent.FromString(record.payload or b"")
        update.artifact.parts.extend(part(item) for item in record.parts)
        update.metadata.MergeFrom(metadata)
        return StreamResponse(artifact_update=update)
    wire_state = state(record.status, started=record.started)
    status = WireStatus(state=wire_state, timestamp=_timestamp(record.created_at))
    payload = record.payload
    if record.kind == "checkpoint":
        metadata.update({"checkpoint": (payload or b"").decode()})
        payload = None
    if record.is_follow_up:
        # What the client said is in the history; a status message is the agent's.
        payload = None
    message = _message(payload, record.error, str(record.task_id), context_id)
    if message is not None:
        status.message.CopyFrom(message)
    return StreamResponse(
        status_update=TaskStatusUpdateEvent(
            task_id=str(record.task_id), context_id=context_id, status=status, metadata=metadata
        )
    )


def artifact(view: ArtifactView) -> Artifact:
    return Artifact(
        artifact_id=view.artifact_id,
        name=view.name,
        description=view.description,
        parts=[part(item) for item in view.parts],
        metadata=_struct(view.metadata) if view.metadata else None,
    )


def part(record: PartRecord) -> Part:
    """The A2A Part of a stored chunk."""
    made = Part(media_type=record.media_type, filename=record.filename)
    if record.kind == "text":
        made.text = record.content.decode()
    elif record.kind == "data":
        made.data.CopyFrom(ParseDict(json.loads(record.content), Value()))
    elif record.kind == "url":
        made.url = record.content.decode()
    else:
        made.raw = record.content
    if record.metadata:
        made.metadata.update(record.metadata)
    return made


def history(model: TaskModel) -> list[Message]:
    """The conversation of a task, oldest first."""
    payloads = model.events.said().values_list("payload", flat=True)
    said = [bytes(data) for data in (model.request.message, *payloads) if data is not None]
    return [Message.FromString(data) for data in engine.run(files.filled, [(model.id, said)])[0]]


def as_dict(message: Any) -> dict[str, Any]:
    """ProtoJSON of an A2A object. A list is there though it is empty (section 3.1.4)."""
    if isinstance(message, Submitted):
        return message.as_dict()
    data: dict[str, Any] = MessageToDict(message)
    if isinstance(message, ListTasksResponse):
        data = {"tasks": [], "nextPageToken": "", "totalSize": 0, **data, "pageSize": message.page_size}
    if isinstance(message, ListTaskPushNotificationConfigsResponse):
        data = {"configs": [], **data}
    return data


def _said(message: Message) -> dict[str, Any]:
    """As :func:`as_dict`; a client's message that is nothing but text and ids, as most are, is written out by hand."""
    said = {_PLAIN.get(field.name, ""): value for field, value in message.ListFields()}
    parts = [part.ListFields() for part in message.parts]
    if "" in said or any([field.name for field, _ in fields] != ["text"] for fields in parts):
        return as_dict(message)
    return {**said, "role": "ROLE_USER", "parts": [{"text": fields[0][1]} for fields in parts]}


def as_json(message: Any) -> bytes:
    """As :func:`as_dict`, as text; also of a stream's :class:`Event`."""
    return message.json() if isinstance(message, Event) else orjson.dumps(as_dict(message))


def _status(status: TaskStatus, record: TaskRecord) -> WireStatus:
    made = WireStatus(state=state(status, started=record.attempt > 0), timestamp=_timestamp(record.status_at))
    message = _message(record.status_message, record.error, str(record.id), record.context_id)
    if message is not None:
        made.message.CopyFrom(message)
    return made


def _message(payload: bytes | None, error: dict[str, str] | None, task_id: str, context_id: str) -> Message | None:
    if payload:
        said: Message = Message.FromString(payload)
        return said
    if not error:
        return None
    # Somebody else than the agent made the change: say why in its place.
    return Message(
        message_id=f"{task_id}:{error.get('code', 'error')}",
        task_id=task_id,
        context_id=context_id,
        role=Role.ROLE_AGENT,
        parts=[Part(text=error.get("message", ""))],
    )


def _ours(record: TaskRecord, waiting: Sequence[Reason]) -> dict[str, Any]:
    ours = {"priority": record.priority.label, "progress": record.progress, "attempt": record.attempt}
    more = {"error": record.error, "waiting_for": [reason._asdict() for reason in waiting]}
    return {**ours, **{name: value for name, value in more.items() if value}}


def _struct(data: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(data)
    return made


def _timestamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made
