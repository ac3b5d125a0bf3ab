"""The operations of A2A (1.0, section 3.1), one function each, the same for every binding.

Params come as ProtoJSON, because protobuf's parser forgives what a client should hear of; results go as A2A objects,
which each binding renders. Every function raises A2A's errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageResponse,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
)
from django.conf import settings
from google.protobuf.empty_pb2 import Empty

from tasks_app import intake, listing, reads
from tasks_app.a2a import agent_card, extension, extensions, parse, wire
from tasks_app.a2a.errors import (
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
    invalid,
)
from tasks_app.a2a.wire import Event, Submitted
from tasks_app.agents import AgentSpec
from tasks_app.authentication import Caller, check_scopes
from tasks_app.engine import FollowUp, NewTask
from tasks_app.push import operations as push
from tasks_app.push.configs import Full
from tasks_app.push.values import NewPush
from tasks_app.reads import TaskRecord, Wanted
from tasks_app.status import AT_REST, TERMINAL, TaskStatus
from tasks_app.web import web

Params = Mapping[str, Any]
#: The operations that change nothing: they need the scope to read only.
READS = frozenset(
    {
        "GetTask",
        "ListTasks",
        "SubscribeToTask",
        "GetTaskPushNotificationConfig",
        "ListTaskPushNotificationConfigs",
        "GetExtendedAgentCard",
    }
)
#: Where the stream of a message ends: its turn is over, and the client's next one needs a request of its own.
ASKS = frozenset({TaskStatus.INPUT_REQUIRED})
#: How many tasks a message may refer to: each is looked at, and given to the handler.
REFERENCES_MAX = 100
#: With what a stream of A2A 0.3 ends, whatever it is of.
SETTLED = TERMINAL | ASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who asks which agent for what.

    ``after`` is the last generation that the client of a stream has seen, ``base_url`` where it reaches this server.
    ``extensions`` are the URIs of those that it asked for and that hold: every answer names them.
    """

    caller: Caller
    spec: AgentSpec
    method: str
    after: int | None = None
    base_url: str = ""
    extensions: tuple[str, ...] = ()

    @classmethod
    def made(
        cls,
        *,
        caller: Caller,
        spec: AgentSpec,
        method: str,
        asked: Sequence[str],
        after: int | None = None,
        base_url: str = "",
    ) -> Call:
        """The call, if it may be made; ``asked`` are the values of the headers that name extensions.

        Raises Forbidden, or ExtensionSupportRequiredError if it does not ask for one that its agent requires.
        """
        check_scopes(caller, write=method not in READS)
        extensions.check_required(spec, asked)
        activated = tuple(extensions.activated(spec, asked)) if asked else ()
        return cls(caller=caller, spec=spec, method=method, after=after, base_url=base_url, extensions=activated)


class Item(NamedTuple):
    """What a stream sends next; ``generation`` is its place, which a client may name to go on from there.

    ``settled`` says that with it the task has ended or waits for its client's input: A2A 0.3's ``final``.
    """

    generation: int
    response: StreamResponse | Submitted | Event
    settled: bool = False


#: None where nothing came for a while.
Items = AsyncIterator[Item | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a message asks for: a new task, or another turn of one that is there; and how to answer.

    ``webhook`` is where the events of a task that is there shall be sent from now on; a new one has its own.
    """

    item: NewTask | FollowUp
    message: Message
    webhook: NewPush | None
    history_length: int | None
    immediately: bool

    @property
    def task_id(self) -> UUID:
        """The task that it will be, unless the same message was there before."""
        return self.item.id if isinstance(self.item, NewTask) else self.item.task_id


def agent_at(name: str | None, tenant: Any) -> AgentSpec:
    """The agent that an address and a tenant name; the default one if neither does.

    ``tenant`` is the routing key of A2A (section 8.3.2): here it is an agent's name. Where the address names the agent
    already, it may only repeat it. Raises InvalidParamsError.
    """
    if tenant is not None and not isinstance(tenant, str):
        raise invalid("tenant", "must be a string")
    if name and tenant and tenant != name:
        raise invalid("tenant", f"this is the address of the agent '{name}'")
    return intake.agent_named(name or tenant or settings.A2A_DEFAULT_AGENT, path="tenant")


# Operations ----------------------------------------------------------------------------------------------------------


async def send_message(call: Call, params: Params) -> SendMessageResponse | Submitted:
    """Accepts the message. Answers when its task has ended or waits for its client, or at once if that is asked.

    Of an agent that replies with messages the answer is that message, and waits for it (section 3.2.2).
    """
    asked = await _asked(call, params)
    if asked.immediately and call.spec.replies == "task":
        accepted = await _accept(call, asked)
        return accepted if isinstance(accepted, Submitted) else await _sent(call, accepted, asked)
    with web().hub.follow(asked.task_id, to_settle=True) as changed:
        accepted = await _accept(call, asked)
        task_id = accepted.task_id if isinstance(accepted, Submitted) else accepted
        if task_id == asked.task_id:
            return await _settled(call, task_id, asked, changed, new=isinstance(accepted, Submitted))
    with web().hub.follow(task_id, to_settle=True) as changed:
        return await _settled(call, task_id, asked, changed)


async def send_streaming_message(call: Call, params: Params) -> Items:
    """Accepts the message; the task first, then its events in order, until it has ended or needs input.

    While it needs authorisation the stream stays open, since that may come by another way (section 7.6.1). Of an agent
    that replies with messages, that message alone.
    """
    asked = await _asked(call, params)
    accepted = await _accept(call, asked)
    if call.spec.replies == "message":
        return _reply(call, accepted.task_id if isinstance(accepted, Submitted) else accepted, asked)
    if isinstance(accepted, Submitted):
        place = _Place(task_id=accepted.task_id, context_id=accepted.context_id, after=1, until=1, ends_at=ASKS)
        return _stream(Item(1, accepted), place)
    record = await _record(call, accepted, history=asked.history_length)
    return await _stream_of(call, record, asked.history_length, ends_at=ASKS)


async def subscribe_to_task(call: Call, params: Params, *, ends_at: frozenset[TaskStatus] = frozenset()) -> Items:
    """The task as it is, then its events in order, until it has ended; or the events after ``call.after``.

    Also until it is in one of the states ``ends_at``, if it is in none of them since then.
    """
    request = parse.proto(params, SubscribeToTaskRequest(), path="params")
    whole = call.after is None
    record = await _record(call, _task_id(request), history=None if whole else 0, artifacts=whole)
    if record.status in TERMINAL and (call.after is None or call.after >= record.generation):
        raise UnsupportedOperationError(f"task {record.id} has ended: there is nothing to subscribe to")
    return await _stream_of(call, record, None, ends_at=ends_at)


async def get_task(call: Call, params: Params) -> Task:
    """The task, with as much of its history as is asked for."""
    request = parse.proto(params, GetTaskRequest(), path="params")
    wanted = _history_length(request)
    return await _read(call, _task_id(request), wanted)


async def list_tasks(call: Call, params: Params) -> ListTasksResponse:
    """A page of the caller's tasks of this agent, what changed its state last first (section 3.1.4)."""
    parse.check_state(params.get("status"), path="status")
    request = parse.proto(params, ListTasksRequest(), path="params")
    history_length = _history_length(request) or 0
    query = listing.query(request, client_id=call.caller.client_id, agent=call.spec.name, history_length=history_length)
    page = await web().read(listing.tasks, query)
    return ListTasksResponse(
        tasks=[wire.task(record, history_length=history_length) for record in page.tasks],
        next_page_token=page.next_token,
        page_size=query.page_size,
        total_size=page.total,
    )


async def cancel_task(call: Call, params: Params) -> Task:
    """Cancels the task, at once; the work is stopped after. Raises TaskNotCancelableError for one that has ended."""
    request = parse.proto(params, CancelTaskRequest(), path="params")
    record = await _record(call, _task_id(request), history=0, artifacts=False)
    if not await web().cancel(record.id, by="its client"):
        raise TaskNotCancelableError(f"task {record.id} has ended already")
    return await _read(call, record.id, None)


async def get_extended_agent_card(call: Call, params: Params) -> AgentCard:
    """The agent's card with what is shown to this caller only (section 3.1.11)."""
    return agent_card.extended(call.spec, call.caller, agent_card.Site.at(call.base_url))


async def create_push_config(call: Call, params: Params) -> TaskPushNotificationConfig:
    """The webhook as it stands now; one of the same id is replaced (section 3.1.7)."""
    config = parse.proto(params, TaskPushNotificationConfig(), path="params")
    return await push.create(web().read, _task_id(config, "taskId"), config, **_whose(call))


async def get_push_config(call: Call, params: Params) -> TaskPushNotificationConfig:
    """The webhook, without its secrets (section 3.1.8)."""
    request = parse.proto(params, GetTaskPushNotificationConfigRequest(), path="params")
    return await push.get(web().read, _task_id(request, "taskId"), request.id, **_whose(call))


async def list_push_configs(call: Call, params: Params) -> ListTaskPushNotificationConfigsResponse:
    """A page of the task's webhooks (section 3.1.9)."""
    request = parse.proto(params, ListTaskPushNotificationConfigsRequest(), path="params")
    return await push.listed(
        web().read,
        _task_id(request, "taskId"),
        page_size=request.page_size,
        page_token=request.page_token,
        **_whose(call),
    )


async def delete_push_config(call: Call, params: Params) -> Empty:
    """Ends the webhook, which may be gone already (section 3.1.10)."""
    request = parse.proto(params, DeleteTaskPushNotificationConfigRequest(), path="params")
    await push.delete(web().read, _task_id(request, "taskId"), request.id, **_whose(call))
    return Empty()


UNARY: dict[str, Callable[[Call, Params], Awaitable[Any]]] = {
    "SendMessage": send_message,
    "GetTask": get_task,
    "ListTasks": list_tasks,
    "CancelTask": cancel_task,
    "CreateTaskPushNotificationConfig": create_push_config,
    "GetTaskPushNotificationConfig": get_push_config,
    "ListTaskPushNotificationConfigs": list_push_configs,
    "DeleteTaskPushNotificationConfig": delete_push_config,
    "GetExtendedAgentCard": get_extended_agent_card,
}
STREAMING: dict[str, Callable[[Call, Params], Awaitable[Items]]] = {
    "SendStreamingMessage": send_streaming_message,
    "SubscribeToTask": subscribe_to_task,
}


# What they share -----------------------------------------------------------------------------------------------------


async def _asked(call: Call, params: Params) -> Asked:
    """What a message asks for, checked."""
    message = parse.message(params.get("message"), path="message")
    configuration = parse.configuration(params.get("configuration"), path="configuration")
    history_length = _history_length(configuration, path="configuration.historyLength")
    await _check_references(call, message)
    webhook = await push.inline(configuration)
    modes = parse.media_types(configuration.accepted_output_modes, path="configuration.acceptedOutputModes")
    immediately = configuration.return_immediately
    if message.task_id:
        return Asked(await _follow_up(call, message, modes), message, webhook, history_length, immediately)
    item = _new_task(call, params, message, modes, webhook)
    if item.depends_on:
        owned = await web().read(reads.owned, item.depends_on, client_id=call.caller.client_id)
        intake.check_needs(item.depends_on, owned, path=f"message.metadata.{extension.URI}.depends_on")
    return Asked(item, message, None, history_length, immediately)


def _new_task(call: Call, params: Params, message: Message, modes: tuple[str, ...], webhook: NewPush | None) -> NewTask:
    return intake.new_task(
        caller=call.caller,
        spec=call.spec,
        message=message,
        options=intake.options_of(params["message"]),
        metadata=parse.json_object(params.get("metadata"), path="metadata"),
        method=call.method,
        options_path=f"message.metadata.{extension.URI}.",
        accepted_output_modes=modes,
        push=webhook,
    )


async def _follow_up(call: Call, message: Message, modes: tuple[str, ...]) -> FollowUp:
    """Another turn of the task that the message names (section 3.4.3)."""
    record = await _record(call, intake.task_id(message.task_id), history=0, artifacts=False)
    return intake.follow_up(
        caller=call.caller,
        spec=call.spec,
        message=message,
        context_id=record.context_id,
        skill=extension.skill_of(Message.FromString(record.request)),
        accepted_output_modes=modes,
    )


async def _check_references(call: Call, message: Message) -> None:
    """Raises InvalidParamsError unless the client may see every task that it refers to (section 13.1)."""
    if len(message.reference_task_ids) > REFERENCES_MAX:
        raise invalid("message.referenceTaskIds", f"must name at most {REFERENCES_MAX} tasks")
    ids = [parse.uuid(text) for text in message.reference_task_ids]
    seen = (
        await web().read(reads.owned, [known for known in ids if known], client_id=call.caller.client_id) if ids else ()
    )
    for index, known in enumerate(ids):
        if known not in seen:
            raise invalid(f"message.referenceTaskIds[{index}]", "there is no such task")


async def _accept(call: Call, asked: Asked) -> Submitted | UUID:
    """The new task, or the id of the one that stands for the message; when this returns it is stored."""
    await web().throttle(call.caller)
    if isinstance(asked.item, FollowUp):
        try:
            return intake.delivered(await web().deliver(asked.item, asked.webhook)).task_id
        except Full:
            raise push.full("configuration.taskPushNotificationConfig") from None
    created = intake.accepted(await web().submit(asked.item), call.caller)
    if created.repeated:
        return created.task_id
    return Submitted(
        task_id=created.task_id,
        context_id=asked.item.context_id,
        at=created.created_at,
        metadata=asked.item.metadata,
        message=None if asked.history_length == 0 else asked.message,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a stream begins, and where it ends but with its task: in one of the states, from ``until`` on."""

    task_id: UUID
    context_id: str
    after: int
    until: int
    ends_at: frozenset[TaskStatus]
    ended: bool = False


async def _stream(first: Item | None, place: _Place) -> Items:
    """``first``, and the events from the place on."""
    if first is not None:
        yield first
    del first  # an open stream keeps nothing of what it has sent
    if place.ended:
        return
    async for event in web().follow(place.task_id, after=place.after):
        if event is None:
            yield None
            continue
        # A client may have answered since: of what came before, no question settles anything.
        settled = event.kind == "status" and event.status in SETTLED and event.generation >= place.until
        yield Item(event.generation, Event(event, place.context_id), settled)
        if settled and event.status in place.ends_at:
            return


async def _stream_of(
    call: Call, record: TaskRecord, history_length: int | None, *, ends_at: frozenset[TaskStatus]
) -> Items:
    """The task as it is and what comes after; or the events after the one that the client names."""
    after = record.generation if call.after is None else min(call.after, record.generation)
    place = _Place(
        task_id=record.id,
        context_id=record.context_id,
        after=after,
        until=record.generation,
        ends_at=ends_at,
        ended=after == record.generation and record.status in TERMINAL | ends_at,
    )
    if call.after is not None:
        return _stream(None, place)
    task = await _task(record, history_length)
    return _stream(Item(record.generation, StreamResponse(task=task), record.status in SETTLED), place)


async def _settled(
    call: Call, task_id: UUID, asked: Asked, changed: asyncio.Event, *, new: bool = False
) -> SendMessageResponse:
    """The answer of a send that has waited for its task."""
    wanted = Wanted(task_id, call.caller.client_id, call.spec.name, history=asked.history_length)
    record = await web().settled(wanted, wait_s=settings.A2A_BLOCKING_WAIT_S, changed=changed, new=new)
    if record is None:
        raise TaskNotFoundError(f"no task '{task_id}'")
    return SendMessageResponse(**await _answer(call, record, asked))


async def _answer(call: Call, record: TaskRecord, asked: Asked) -> dict[str, Any]:
    """What answers a message: the agent's own, where it replies with messages and has, else the task; by its field."""
    message = wire.reply(record) if call.spec.replies == "message" else None
    return {"task": await _task(record, asked.history_length)} if message is None else {"message": message}


async def _reply(call: Call, task_id: UUID, asked: Asked) -> Items:
    """The one answer of a stream, once the task has settled."""
    record = await _record(call, task_id, history=asked.history_length)
    if record.status not in AT_REST:
        async for event in web().follow(task_id, after=record.generation):
            if event is None:
                yield None
            elif event.kind == "status" and event.status in AT_REST:
                break
        record = await _record(call, task_id, history=asked.history_length)
    yield Item(record.generation, StreamResponse(**await _answer(call, record, asked)), settled=True)


async def _record(call: Call, task_id: UUID, *, history: int | None = None, artifacts: bool = True) -> TaskRecord:
    """The caller's task of this agent. Raises TaskNotFoundError."""
    record = await web().task(Wanted(task_id, call.caller.client_id, call.spec.name, history, artifacts))
    if record is None:
        raise TaskNotFoundError(f"no task '{task_id}'")
    return record


async def _task(record: TaskRecord, history_length: int | None) -> Task:
    waiting = await web().waiting_for(record.id) if record.status == TaskStatus.PENDING else []
    return wire.task(record, history_length=history_length, waiting=waiting)


async def _read(call: Call, task_id: UUID, history_length: int | None) -> Task:
    return await _task(await _record(call, task_id, history=history_length), history_length)


async def _sent(call: Call, task_id: UUID, asked: Asked) -> SendMessageResponse:
    return SendMessageResponse(task=await _read(call, task_id, asked.history_length))


def _task_id(request: Any, name: str = "id") -> UUID:
    said = request.id if name == "id" else request.task_id
    if not said:
        raise invalid(name, "is required")
    return intake.task_id(said)


def _whose(call: Call) -> dict[str, Any]:
    """Whose tasks a call may name."""
    return {"client_id": call.caller.client_id, "agent": call.spec.name}


def _history_length(request: Any, *, path: str = "historyLength") -> int | None:
    if not request.HasField("history_length"):
        return None
    if request.history_length < 0:
        raise invalid(path, "must not be negative")
    return int(request.history_length)
