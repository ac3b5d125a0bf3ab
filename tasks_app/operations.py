"""What every door does between parsing a request and rendering its answer, binding-neutral."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from a2a.types import Message

from tasks_app import agents
from tasks_app.a2a import extension, parse
from tasks_app.a2a.errors import (
    ResourceExhaustedError,
    TaskNotFoundError,
    UnsupportedOperationError,
    invalid,
    unsupported_content,
)
from tasks_app.a2a.extension import TaskOptions
from tasks_app.agents import AgentSpec
from tasks_app.authentication import Caller, check_scopes
from tasks_app.engine import Created, NewTask
from tasks_app.policies import Resources

#: What a client is told to wait where nobody can say when one of its tasks will start, in seconds.
QUEUE_RETRY_S = 5.0


def agent_named(name: Any, *, path: str = "agent") -> AgentSpec:
    """The agent. Raises InvalidParamsError naming the field, and the agents there are."""
    if not isinstance(name, str) or not name:
        raise invalid(path, "is required")
    try:
        return agents.get(name)
    except agents.UnknownAgent as error:
        raise invalid(path, str(error)) from error


def task_id(text: Any) -> UUID:
    """The id of a task. What is no id of ours is as unknown as any other: TaskNotFoundError."""
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        raise TaskNotFoundError(f"no task '{str(text)[:100]}'") from None


def options_of(message: Mapping[str, Any]) -> TaskOptions:
    """What the metadata of a message says under our extension; the defaults if it says nothing.

    Takes the message as JSON: a protobuf Struct makes every number a float.
    """
    metadata = message.get("metadata") or {}
    if extension.URI not in metadata:
        return TaskOptions()
    return extension.parse(metadata[extension.URI], path=f"message.metadata.{extension.URI}")


def new_task(
    *,
    caller: Caller,
    spec: AgentSpec,
    message: Message,
    options: TaskOptions,
    metadata: dict[str, Any],
    method: str,
    options_path: str = "",
) -> NewTask:
    """The task that this message asks for, checked against its agent; not yet stored.

    ``options_path`` is what stands before the names of the options in the request, for errors.
    Raises InvalidParamsError, ContentTypeNotSupportedError, TaskNotFoundError or UnsupportedOperationError; Forbidden
    if the caller lacks a scope for what it asks.
    """
    ask_for(options.skill, caller=caller, spec=spec, message=message, path=f"{options_path}skill")
    if message.task_id:
        # A follow-up: turns of a task are not there yet, and what is not there cannot be named.
        task_id(message.task_id)
        raise UnsupportedOperationError("message.taskId: follow-up messages to a task are not supported yet")
    _check_content(spec, message)
    _check_parameters(spec, options, f"{options_path}parameters")
    needs = _needs(spec, options, f"{options_path}resources")
    texts = {"metadata": metadata}
    texts[f"{options_path}parameters"] = options.parameters
    for path, data in texts.items():
        if parse.has_nul(data):
            raise invalid(path, "may not hold NUL characters")
    return NewTask(
        client_id=caller.client_id,
        agent=spec.name,
        lane=spec.lane,
        context_id=message.context_id or str(uuid4()),
        message_id=message.message_id,
        message=message.SerializeToString(deterministic=True),
        method=method,
        priority=options.priority,
        parameters=options.parameters,
        metadata=metadata,
        asked=options.asked,
        needs=needs,
        max_queued=caller.max_queued,
        start_deadline_s=options.start_deadline_s or spec.start_deadline_s,
        timeout_s=options.timeout_s or spec.timeout_s,
        max_attempts=spec.max_attempts,
        run_after=options.run_after,
    )


def accepted(created: Created, caller: Caller) -> Created:
    """What was created, if it was.

    Raises InvalidParamsError if the message id had been used for another request, ResourceExhaustedError if the client
    has too many tasks waiting.
    """
    if created.conflict:
        raise invalid("message.messageId", "was used before, for another request")
    if created.refused:
        waiting = f"at most {caller.max_queued} of your tasks may wait"
        raise ResourceExhaustedError("max_queued", waiting, retry_after_s=QUEUE_RETRY_S)
    return created


def ask_for(skill: str, *, caller: Caller, spec: AgentSpec, message: Message, path: str) -> None:
    """Has a message ask for a skill, empty for whichever the agent takes, if the caller may.

    Raises Forbidden if it may not, InvalidParamsError if there is no such skill.
    """
    try:
        check_scopes(caller, spec, skill, write=True)
    except agents.UnknownSkill as error:
        raise invalid(path, str(error)) from error
    extension.put_skill(message, skill)


def _check_content(spec: AgentSpec, message: Message) -> None:
    for index, part in enumerate(message.parts):
        field = f"message.parts[{index}]"
        if part.WhichOneof("content") == "url":
            raise unsupported_content(f"{field}.url", "files by URL are not fetched yet; send the bytes as raw")
        if not spec.accepts(part.media_type):
            modes = ", ".join(spec.input_modes)
            raise unsupported_content(f"{field}.mediaType", f"'{part.media_type[:100]}' is none of {modes}")


def _needs(spec: AgentSpec, options: TaskOptions, path: str) -> Resources:
    try:
        return spec.resources.with_asked(options.resources)
    except ValueError as error:
        field, _, complaint = str(error).partition(": ")
        raise invalid(f"{path}.{field}", complaint) from error


def _check_parameters(spec: AgentSpec, options: TaskOptions, path: str) -> None:
    try:
        spec.check_parameters(options.parameters)
    except agents.BadParameters as error:
        raise invalid(path + error.field.removeprefix("parameters"), str(error)[:300]) from error
