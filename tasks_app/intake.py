"""What a submit asks for, checked: what every door does between parsing a request and handing it to the engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from a2a.types import Message
from django.conf import settings

from artifacts_app.sniffing import START_BYTES, plainly_other
from tasks_app import addresses, agents
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
from tasks_app.engine import Created, Delivered, FollowUp, NewTask
from tasks_app.policies import Resources
from tasks_app.push.values import NewPush

#: What a client is told to wait where nobody can say when one of its tasks will start, in seconds.
QUEUE_RETRY_S = 5.0
#: The same where it has as many files as it may: they are counted once in so long.
STORAGE_RETRY_S = 60.0


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
    accepted_output_modes: tuple[str, ...] = (),
    push: NewPush | None = None,
) -> NewTask:
    """The task that this message asks for, checked against its agent; not yet stored.

    ``options_path`` is what stands before the names of the options in the request, for errors.
    Raises InvalidParamsError or ContentTypeNotSupportedError; Forbidden if the caller lacks a scope for what it asks.
    """
    ask_for(options.skill, caller=caller, spec=spec, message=message, path=f"{options_path}skill")
    # What it needs it is given to read, as what its client refers to (A2A 1.0, section 3.4.1).
    known = set(message.reference_task_ids)
    message.reference_task_ids.extend(str(needed) for needed in options.depends_on if str(needed) not in known)
    _check_content(spec, message)
    _check_storage(caller, message)
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
        # As numbers come over gRPC, so that a repeat over another binding is the same request.
        metadata=parse.whole(metadata),
        asked=options.asked,
        accepted_output_modes=accepted_output_modes,
        push=push,
        needs=needs,
        max_queued=caller.max_queued,
        start_deadline_s=options.start_deadline_s or spec.start_deadline_s,
        timeout_s=options.timeout_s or spec.timeout_s,
        max_attempts=spec.max_attempts,
        run_after=options.run_after,
        depends_on=options.depends_on,
    )


def check_needs(needed: Sequence[UUID], owned: Collection[UUID], *, path: str) -> None:
    """Raises InvalidParamsError for a task that is needed and is none of the client's."""
    for index, each in enumerate(needed):
        if each not in owned:
            raise invalid(f"{path}[{index}]", "there is no such task")


def follow_up(
    *,
    caller: Caller,
    spec: AgentSpec,
    message: Message,
    context_id: str,
    skill: str,
    accepted_output_modes: tuple[str, ...] = (),
) -> FollowUp:
    """The message as one to the task it names, which is of this context and was made for this skill; not yet delivered.

    Raises InvalidParamsError, ContentTypeNotSupportedError or TaskNotFoundError; Forbidden as :func:`new_task`.
    """
    if message.context_id not in ("", context_id):
        raise invalid("message.contextId", "is not that of the task")
    if extension.URI in message.metadata:
        raise invalid(f"message.metadata.{extension.URI}", "the options of a task are those of its first message")
    ask_for(skill, caller=caller, spec=spec, message=message, path=f"message.metadata.{extension.URI}.skill")
    _check_content(spec, message)
    _check_storage(caller, message)
    return FollowUp(
        task_id=task_id(message.task_id),
        client_id=caller.client_id,
        agent=spec.name,
        message_id=message.message_id,
        message=message.SerializeToString(deterministic=True),
        accepted_output_modes=accepted_output_modes,
    )


def delivered(result: Delivered) -> Delivered:
    """What was delivered, if it was.

    Raises TaskNotFoundError, InvalidParamsError, UnsupportedOperationError or, where too many messages wait for the
    task's turns, ResourceExhaustedError.
    """
    if result.missing:
        raise TaskNotFoundError(f"no task '{result.task_id}'")
    if result.conflict:
        raise invalid("message.messageId", "was used before, for another message to this task")
    if result.ended:
        raise UnsupportedOperationError(f"task {result.task_id} has ended: {result.status}; it takes no message")
    if result.full:
        waiting = f"at most {settings.A2A_MAX_UNREAD} messages may wait for the turns of a task"
        raise ResourceExhaustedError("unread_messages", waiting, retry_after_s=QUEUE_RETRY_S)
    return result


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


def _check_storage(caller: Caller, message: Message) -> None:
    if caller.storage_left_bytes is None:
        return
    brought = sum(len(part.raw) for part in message.parts)
    if brought > caller.storage_left_bytes:
        raise over_quota(caller)


def over_quota(caller: Caller) -> ResourceExhaustedError:
    """What a client hears that brings more files than it has room for."""
    left = f"there is room for {caller.storage_left_bytes} bytes more of your files"
    return ResourceExhaustedError("max_storage_bytes", left, retry_after_s=STORAGE_RETRY_S)


def _check_content(spec: AgentSpec, message: Message) -> None:
    for index, part in enumerate(message.parts):
        field = f"message.parts[{index}]"
        if part.WhichOneof("content") == "url" and not spec.takes_urls and addresses.uploaded(part.url) is None:
            raise unsupported_content(f"{field}.url", "this agent fetches nothing; send the bytes as raw")
        if not spec.accepts(part.media_type):
            modes = ", ".join(spec.input_modes)
            raise unsupported_content(f"{field}.mediaType", f"'{part.media_type[:100]}' is none of {modes}")
        # What shows nothing at all is for the handler to look at.
        shown = plainly_other(part.media_type, part.raw[:START_BYTES]) if part.WhichOneof("content") == "raw" else None
        if shown is not None:
            raise unsupported_content(f"{field}.mediaType", f"says {part.media_type[:100]}, and the bytes are {shown}")


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
