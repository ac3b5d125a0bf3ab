"""What the operations answer → 0.3's objects, by the SDK's conversion. Pure."""

from __future__ import annotations

from typing import Any

from a2a.compat.v0_3 import conversions, types
from a2a.types import (
    AgentCard,
    ListTaskPushNotificationConfigsResponse,
    SendMessageResponse,
    StreamResponse,
    Task,
    TaskPushNotificationConfig,
)
from pydantic import BaseModel

from tasks_app.a2a import wire
from tasks_app.a2a.errors import TaskNotFoundError
from tasks_app.a2a.wire import Submitted
from tasks_app.operations import Item

#: One event of a stream.
Event = types.Task | types.Message | types.TaskStatusUpdateEvent | types.TaskArtifactUpdateEvent


def task(result: Task) -> types.Task:
    return conversions.to_compat_task(result)


def sent(result: SendMessageResponse | Submitted) -> types.Task | types.Message:
    """The task, or the message that takes its place."""
    if isinstance(result, Submitted):
        return task(result.task())
    return task(result.task) if result.HasField("task") else conversions.to_compat_message(result.message)


def event(item: Item) -> Event:
    """An event of a stream. ``final`` is said by what ends 0.3's streams, input-required too: section 7.2.2."""
    response = item.response
    if isinstance(response, Submitted):
        response = StreamResponse(task=response.task())
    elif isinstance(response, wire.Event):
        response = response.proto()
    made: Event = conversions.to_compat_stream_response(response).result
    if isinstance(made, types.TaskStatusUpdateEvent):
        made.final = item.settled
    return made


def push_config(result: TaskPushNotificationConfig) -> types.TaskPushNotificationConfig:
    return conversions.to_compat_task_push_notification_config(result)


def push_configs(result: ListTaskPushNotificationConfigsResponse) -> list[types.TaskPushNotificationConfig]:
    return [push_config(config) for config in result.configs]


def any_push_config(result: ListTaskPushNotificationConfigsResponse) -> types.TaskPushNotificationConfig:
    """The first, where the request names none. Raises TaskNotFoundError if there is none."""
    if not result.configs:
        raise TaskNotFoundError("the task has no push notification config")
    return push_config(result.configs[0])


def nothing(result: Any) -> None:
    """Of what answers only that it was done."""


def card(result: AgentCard) -> types.AgentCard:
    return conversions.to_compat_agent_card(result)


def as_json(result: Any) -> Any:
    """The JSON of an object of 0.3, of a list of them, or of none."""
    if isinstance(result, list):
        return [as_json(item) for item in result]
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return result
