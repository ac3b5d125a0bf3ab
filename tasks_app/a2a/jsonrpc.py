"""The JSON-RPC binding (A2A 1.0, section 9): one address per agent, and the operations the main job needs.

Starlette routes: nothing of Django stands between the socket and the engine here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    SendMessageConfiguration,
    TaskState,
)
from django.conf import settings
from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from tasks_app import operations, reads
from tasks_app.a2a import extension, http, parse, wire
from tasks_app.a2a.errors import (
    A2AError,
    InternalError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
    PushNotificationNotSupportedError,
    ResourceExhaustedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    VersionNotSupportedError,
    invalid,
    jsonrpc_error,
)
from tasks_app.agents import AgentSpec
from tasks_app.authentication import Caller, Forbidden, Unauthenticated, check_scopes
from tasks_app.engine import Created, NewTask
from tasks_app.status import INTERRUPTED, TERMINAL, TaskStatus
from tasks_app.waiting import waiting_for
from tasks_app.web import web

log = logging.getLogger(__name__)

VERSION = "1.0"
KEEP_ALIVE_S = 15
#: The methods that change nothing.
READS = ("GetTask",)
#: The wire's names of the states that end a stream.
ENDS = {TaskState.Name(wire.STATES[status]) for status in TERMINAL | INTERRUPTED}


@dataclass(frozen=True, slots=True)
class Call:
    """One JSON-RPC call: who, to which agent, with what."""

    caller: Caller
    spec: AgentSpec
    method: str
    params: dict[str, Any]
    id: Any


@dataclass(frozen=True, slots=True)
class Asked:
    """What a SendMessage asks for: the task, and how to answer."""

    item: NewTask
    message: Message
    history_length: int | None
    immediately: bool


async def endpoint(request: Request, spec: AgentSpec) -> Response:
    """Answers one POST to an agent's address. Errors are JSON-RPC errors with HTTP 200, but for 401, 403, 413, 429."""
    call_id: Any = None
    try:
        caller = await http.caller(request)
        _check_content_type(request)
        data = _decoded(await http.body(request))
        call_id = _id(data)
        _check_envelope(data)
        _check_version(request)
        call = Call(caller, spec, data["method"], data.get("params") or {}, call_id)
        check_scopes(caller, write=call.method not in READS)
        if call.method == "SendStreamingMessage":
            return await _stream(call)
        return _answer(call_id, result=await _operation(call.method)(call))
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except http.BodyTooLarge as error:
        return _answer(call_id, error=InvalidRequestError(f"body: {error}"), status=413)
    except ResourceExhaustedError as error:
        return _answer(call_id, error=error, status=429, headers=error.headers)
    except A2AError as error:
        return _answer(call_id, error=error)
    except Exception:
        log.exception("JSON-RPC: a call failed")
        return _answer(
            call_id, error=InternalError("the server could not answer; look the task up before sending it again")
        )


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise JSONParseError(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidRequestError("the body must be one JSON-RPC object; batches are not supported")
    parse.check_depth(data)
    return data


def _id(data: dict[str, Any]) -> Any:
    """The call's id, which its answer repeats."""
    call_id = data.get("id")
    if not isinstance(call_id, str | int | None) or isinstance(call_id, bool):
        raise InvalidRequestError("id: must be a string or a number")
    return call_id


def _check_content_type(request: Request) -> None:
    """Only JSON that says so: a page of another origin can send anything else without being asked for leave."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/a2a+json"):
        raise InvalidRequestError("Content-Type: must be application/json")


def _check_envelope(data: dict[str, Any]) -> None:
    if data.get("jsonrpc") != "2.0":
        raise InvalidRequestError("jsonrpc: must be '2.0'")
    if not isinstance(data.get("method"), str):
        raise InvalidRequestError("method: is required")
    if not isinstance(data.get("params", {}), dict | None):
        raise invalid("params", "must be an object")


def _check_version(request: Request) -> None:
    """A2A 1.0, section 3.6: Major.Minor, a patch is ignored; nothing said is taken as the current version."""
    asked = request.headers.get("a2a-version") or request.query_params.get("A2A-Version") or VERSION
    if asked.split(".")[:2] != VERSION.split("."):
        raise VersionNotSupportedError(f"A2A-Version: '{asked[:20]}' is not supported; supported is {VERSION}")


def _operation(method: str) -> Callable[[Call], Awaitable[dict[str, Any]]]:
    operations_by_name: dict[str, Callable[[Call], Awaitable[dict[str, Any]]]] = {
        "SendMessage": _send,
        "GetTask": _get,
        "CancelTask": _cancel,
    }
    if method not in operations_by_name:
        raise MethodNotFoundError(f"method: no method '{method[:100]}'")
    return operations_by_name[method]


async def _send(call: Call) -> dict[str, Any]:
    asked = _asked(call)
    if asked.immediately:
        created = await _accept(call, asked.item)
        return {"task": await _read(call, created.task_id, asked) if created.repeated else _submitted(asked, created)}
    async with web().hub.follow(asked.item.id) as changed:
        created = await _accept(call, asked.item)
        if not created.repeated:
            await web().settled(created.task_id, wait_s=settings.A2A_BLOCKING_WAIT_S, changed=changed)
            return {"task": await _read(call, created.task_id, asked)}
    async with web().hub.follow(created.task_id) as changed:
        await web().settled(created.task_id, wait_s=settings.A2A_BLOCKING_WAIT_S, changed=changed)
    return {"task": await _read(call, created.task_id, asked)}


async def _get(call: Call) -> dict[str, Any]:
    request = parse.proto(call.params, GetTaskRequest(), path="params")
    if not request.id:
        raise invalid("id", "is required")
    return await _read(call, operations.task_id(request.id), history_length=_history_length(request))


async def _cancel(call: Call) -> dict[str, Any]:
    request = parse.proto(call.params, CancelTaskRequest(), path="params")
    if not request.id:
        raise invalid("id", "is required")
    task_id = operations.task_id(request.id)
    record = await web().read(
        reads.task, task_id, client_id=call.caller.client_id, agent=call.spec.name, history=False, artifacts=False
    )
    if record is None:
        raise TaskNotFoundError(f"no task '{task_id}'")
    if not await web().cancel(task_id, by="its client"):
        raise TaskNotCancelableError(f"task {task_id} has ended already")
    return await _read(call, task_id)


async def _stream(call: Call) -> Response:
    """Task first, then its events in order; ends when it is terminal or needs input (A2A 1.0, section 3.1.2)."""
    asked = _asked(call)
    created = await _accept(call, asked.item)
    return EventSourceResponse(_events(call, asked, created), ping=KEEP_ALIVE_S, sep="\n")


async def _events(call: Call, asked: Asked, created: Created) -> AsyncIterator[dict[str, str]]:
    task = await _read(call, created.task_id, asked) if created.repeated else _submitted(asked, created)
    after = int(task["metadata"]["generation"])
    yield _sse(call.id, {"task": task}, after)
    if task["status"]["state"] in ENDS:
        return
    async for event in web().follow(created.task_id, after=after):
        yield _sse(call.id, wire.as_dict(wire.event(event, context_id=task["contextId"])), event.generation)
        if event.kind == "status" and event.status in INTERRUPTED:
            return


def _asked(call: Call) -> Asked:
    """The task that a SendMessage asks for, checked; and how to answer."""
    params = call.params
    message: Message = parse.message(params.get("message"), path="message")
    asked = params.get("configuration")
    configuration = parse.proto({} if asked is None else asked, SendMessageConfiguration(), path="configuration")
    history_length = _history_length(configuration)
    if configuration.HasField("task_push_notification_config"):
        raise PushNotificationNotSupportedError("configuration.taskPushNotificationConfig: not supported yet")
    item = operations.new_task(
        caller=call.caller,
        spec=call.spec,
        message=message,
        options=operations.options_of(params["message"]),
        metadata=parse.json_object(params.get("metadata"), path="metadata"),
        method=call.method,
        options_path=f"message.metadata.{extension.URI}.",
    )
    return Asked(item, message, history_length, configuration.return_immediately)


async def _accept(call: Call, item: NewTask) -> Created:
    await web().throttle(call.caller)
    return operations.accepted(await web().submit(item), call.caller)


async def _read(
    call: Call, task_id: UUID, asked: Asked | None = None, *, history_length: int | None = None
) -> dict[str, Any]:
    wanted = history_length if asked is None else asked.history_length
    record = await web().read(
        reads.task, task_id, client_id=call.caller.client_id, agent=call.spec.name, history=wanted != 0
    )
    if record is None:
        raise TaskNotFoundError(f"no task '{task_id}'")
    waiting = await web().read(waiting_for, task_id) if record.status == TaskStatus.PENDING else []
    return wire.as_dict(wire.task(record, history_length=wanted, waiting=waiting))


def _submitted(asked: Asked, created: Created) -> dict[str, Any]:
    return wire.submitted(
        task_id=created.task_id,
        context_id=asked.item.context_id,
        at=created.created_at,
        metadata=asked.item.metadata,
        message=None if asked.history_length == 0 else asked.message,
    )


def _history_length(request: Any) -> int | None:
    if not request.HasField("history_length"):
        return None
    if request.history_length < 0:
        raise invalid("historyLength", "must not be negative")
    return int(request.history_length)


def _answer(
    call_id: Any,
    *,
    result: Any = None,
    error: A2AError | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    outcome = {"result": result} if error is None else {"error": jsonrpc_error(error)}
    body = orjson.dumps({"jsonrpc": "2.0", "id": call_id, **outcome})
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def _sse(call_id: Any, result: dict[str, Any], generation: int) -> dict[str, str]:
    body = {"jsonrpc": "2.0", "id": call_id, "result": result}
    return {"id": str(generation), "data": orjson.dumps(body).decode()}
