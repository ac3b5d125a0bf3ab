"""A task as plain JSON asks for it: the body of ``POST /api/v1/tasks/``, and each item of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from a2a.types import Message

from tasks_app import intake
from tasks_app.a2a import extension, parse
from tasks_app.a2a.errors import invalid
from tasks_app.authentication import Caller
from tasks_app.engine import NewTask

FIELDS = ("agent", "message", "metadata", *extension.FIELDS)


def submission(data: Any, caller: Caller, *, method: str) -> NewTask:
    """The task that a body asks for. Raises A2AError naming the field that is unknown, missing or wrong."""
    if not isinstance(data, Mapping):
        raise invalid("body", "must be a JSON object")
    check_names(data, FIELDS)
    spec = intake.agent_named(data.get("agent"))
    message = said(data)
    if message.task_id:
        raise invalid("message.taskId", f"a message to a task goes to /api/v1/tasks/{message.task_id[:40]}/messages/")
    return intake.new_task(
        caller=caller,
        spec=spec,
        message=message,
        options=extension.parse({name: data[name] for name in extension.FIELDS if name in data}, path=""),
        metadata=parse.json_object(data.get("metadata"), path="metadata"),
        method=method,
    )


def said(data: Mapping[str, Any]) -> Message:
    """The message of a body. It is the client's, and has an id of ours if it brings none."""
    message = data.get("message")
    if isinstance(message, Mapping):
        named = {} if "message_id" in message else {"messageId": str(uuid4())}
        message = {**named, "role": "ROLE_USER", **message}
    return parse.message(message, path="message")


def check_names(data: Mapping[str, Any], names: tuple[str, ...], *, path: str = "") -> None:
    """Raises InvalidParamsError for a field that is none of these; ``path`` is what stands before its name."""
    unknown = sorted(set(data) - set(names))
    if unknown:
        raise invalid(f"{path}{unknown[0]}", f"unknown; there are: {', '.join(names)}")
