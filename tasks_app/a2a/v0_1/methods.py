"""Every method of 0.1 (A2A 0.1, section 7), on the operations. Those that 0.3 has too try its way first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import orjson
from a2a.types import Message

from tasks_app import operations
from tasks_app.a2a import parse
from tasks_app.a2a.dialect import Streaming, Unary
from tasks_app.a2a.errors import InvalidParamsError, TaskNotFoundError, invalid, violations
from tasks_app.a2a.v0_1 import aliases, results
from tasks_app.a2a.v0_3 import jsonrpc as v0_3
from tasks_app.a2a.v0_3 import requests
from tasks_app.a2a.v0_3 import results as v0_3_results
from tasks_app.operations import Call, Items, Params

Json = dict[str, Any]

#: 0.1's names where 1.0 has media types.
_MODES = {"text": "text/plain", "data": "application/json"}


class Event(NamedTuple):
    """One event of a stream, in 0.1's JSON."""

    generation: int
    data: Json


async def send(call: Call, params: Params) -> Json:
    """A new task under the client's id, or a further message to it; answers as ``message/send`` does."""
    asked = await _asked(call, params)
    try:
        sent = await operations.send_message(call, asked)
    except InvalidParamsError as error:
        raise _about_the_id(error) from None
    return results.task(v0_3_results.as_json(v0_3_results.sent(sent)), alias=params["id"])


async def send_subscribe(call: Call, params: Params) -> AsyncIterator[Event | None]:
    """The same, with every event of the task until it has ended or asks its client."""
    asked = await _asked(call, params)
    try:
        items = await operations.send_streaming_message(call, asked)
    except InvalidParamsError as error:
        raise _about_the_id(error) from None
    return _events(items, params["id"])


async def _asked(call: Call, params: Params) -> Params:
    """Params of SendMessage. Raises A2A's errors."""
    alias = aliases.checked(params.get("id"))
    message = params.get("message")
    if isinstance(message, dict):
        said = {name: message.get(name) for name in ("role", "parts", "metadata")}
        message = requests.message(said, path="message")
    ids = await _ids(call, alias, _session_id(params), message)
    return {
        "message": {**message, **ids} if isinstance(message, dict) else message,
        "configuration": _configuration(params),
        "metadata": params.get("metadata"),
    }


async def _ids(call: Call, alias: str, session_id: str | None, message: Any) -> Params:
    """What 0.1 does not say of a message: its id, and the task that it goes on with, if there is one."""
    task = await aliases.task_of(call, alias)
    if task is None or not isinstance(message, dict):
        return {"messageId": aliases.first(alias), "contextId": session_id}
    parsed = parse.message({**message, "messageId": alias}, path="message")
    if aliases.is_first_again(task, parsed):
        # Its clients make a new session for a request that names none, also for a repeat.
        return {"messageId": aliases.first(alias), "contextId": Message.FromString(task.message).context_id}
    return {"messageId": aliases.following(alias, task, parsed), "taskId": str(task.task_id)}


def _session_id(params: Params) -> str | None:
    session_id = params.get("sessionId")
    if session_id is not None and not isinstance(session_id, str):
        raise invalid("sessionId", "must be a string")
    if session_id and (len(session_id) > parse.CONTEXT_ID_MAX_CHARS or "\x00" in session_id):
        raise invalid("sessionId", f"must have at most {parse.CONTEXT_ID_MAX_CHARS} characters, none of them NUL")
    return session_id


def _configuration(params: Params) -> Params:
    modes = params.get("acceptedOutputModes")
    if isinstance(modes, list):
        modes = [_MODES.get(mode, mode) if isinstance(mode, str) else mode for mode in modes]
    made = {"acceptedOutputModes": modes, "historyLength": params.get("historyLength") or 0}
    push = params.get("pushNotification")
    if push is not None:
        made["taskPushNotificationConfig"] = requests.push_config(push, path="pushNotification")
    return made


def _about_the_id(error: InvalidParamsError) -> InvalidParamsError:
    """0.1's messages have no ids: what was used before is that of the task."""
    if [item["field"] for item in violations(error)] != ["message.messageId"]:
        return error
    return invalid("id", "names a task that another request made")


async def _events(items: Items, alias: str) -> AsyncIterator[Event | None]:
    indexes: dict[str, int] = {}
    async for item in items:
        if item is None:
            yield None
            continue
        data = v0_3_results.as_json(v0_3_results.event(item))
        yield Event(item.generation, results.event(data, alias=alias, indexes=indexes))


# What 0.3 has too ----------------------------------------------------------------------------------------------------

Do = Callable[[Call, Params], Awaitable[Any]]


def _or(method: str, by_alias: Do) -> Do:
    """0.3's method; if the server does not know the task, 0.1's on the one whose alias is asked for."""
    found = v0_3.V0_3.unary[method]

    async def do(call: Call, params: Params) -> Any:
        try:
            return await found.answer(call, params)
        except TaskNotFoundError:
            task = await aliases.task_of(call, params.get("id"))
            if task is None:
                raise
            return await by_alias(call, {**params, "id": str(task.task_id), "alias": params["id"]})

    return do


async def _get(call: Call, params: Params) -> Json:
    wanted = {"id": params["id"], "historyLength": params.get("historyLength") or 0}
    task = v0_3_results.task(await operations.get_task(call, wanted))
    return results.task(v0_3_results.as_json(task), alias=params["alias"])


async def _cancel(call: Call, params: Params) -> Json:
    task = v0_3_results.task(await operations.cancel_task(call, requests.task(params)))
    return results.task(v0_3_results.as_json(task), alias=params["alias"])


async def resubscribe(call: Call, params: Params) -> AsyncIterator[Any]:
    """0.3's, or 0.1's for an alias."""
    found = v0_3.V0_3.streaming["tasks/resubscribe"]
    try:
        return await found.do(call, params)
    except TaskNotFoundError:
        task = await aliases.task_of(call, params.get("id"))
        if task is None:
            raise
        return _events(await found.do(call, {"id": str(task.task_id)}), params["id"])


def _push(method: str) -> Do:
    """``tasks/pushNotification/set`` and ``…/get`` by 0.3's method: of any task of the client's, by either id."""
    found = v0_3.V0_3.unary[method]

    async def do(call: Call, params: Params) -> Json:
        alias = aliases.checked(params.get("id"))
        task = await aliases.task_of(call, alias)
        task_id = alias if task is None else str(task.task_id)
        config = params.get("pushNotificationConfig")
        answer = await found.answer(call, {"id": task_id, "taskId": task_id, "pushNotificationConfig": config})
        return results.push_config(answer, alias=alias)

    return do


def _same(result: Any) -> Any:
    return result


def _event(event: Any) -> bytes:
    if isinstance(event, Event):
        return orjson.dumps(event.data)
    return v0_3.V0_3.streaming["tasks/resubscribe"].event(event)


UNARY = {
    "tasks/send": Unary("SendMessage", send, _same),
    "tasks/get": Unary("GetTask", _or("tasks/get", _get), _same),
    "tasks/cancel": Unary("CancelTask", _or("tasks/cancel", _cancel), _same),
    "tasks/pushNotification/set": Unary(
        "CreateTaskPushNotificationConfig", _push("tasks/pushNotificationConfig/set"), _same
    ),
    "tasks/pushNotification/get": Unary(
        "GetTaskPushNotificationConfig", _push("tasks/pushNotificationConfig/get"), _same
    ),
}
STREAMING = {
    "tasks/sendSubscribe": Streaming("SendStreamingMessage", send_subscribe, _event),
    "tasks/resubscribe": Streaming("SubscribeToTask", resubscribe, _event),
}
