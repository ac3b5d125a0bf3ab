"""Every method of 0.3: the operation that does it, and what is converted on the way there and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from a2a.types import StreamResponse, Task

from tasks_app import operations
from tasks_app.a2a.errors import InvalidParamsError, UnsupportedOperationError
from tasks_app.a2a.v0_3 import errors, requests, results
from tasks_app.operations import Call, Item, Items, Params


class Method(NamedTuple):
    """A method of 0.3. What ``do`` returns are 0.3's objects, or of a stream still 1.0's items."""

    operation: str
    do: Callable[[Call, Params], Awaitable[Any]]


def _converted(operation: str, params: Callable[[Params], Params], result: Callable[[Any], Any]) -> Method:
    """The operation, with what is converted on the way there and back."""

    async def do(call: Call, asked: Params) -> Any:
        return result(await operations.UNARY[operation](call, params(asked)))

    return Method(operation, do)


async def send_streaming(call: Call, params: Params) -> Items:
    """Of ``message/stream``; each item is still 1.0's."""
    return await operations.send_streaming_message(call, requests.send(params))


async def resubscribe(call: Call, params: Params) -> Items:
    """Of ``tasks/resubscribe``: until the task has ended or waits for input. One that has ended comes once, as it is.

    So says 0.3's proto of TaskSubscription; in 1.0 the first goes on, and the second is an error.
    """
    wanted = requests.task(params)
    try:
        return await operations.subscribe_to_task(call, wanted, ends_at=operations.ASKS)
    except UnsupportedOperationError:
        return _once(await operations.get_task(call, {"id": wanted["id"]}))


async def set_push_config(call: Call, params: Params) -> Any:
    """Of ``tasks/pushNotificationConfig/set``."""
    try:
        return await _PUSH_SET.do(call, params)
    except InvalidParamsError as error:
        raise errors.about_a_part(error, "pushNotificationConfig") from None


async def get_push_config(call: Call, params: Params) -> Any:
    """Of ``tasks/pushNotificationConfig/get``, which need not say which one: 0.2 has but one."""
    method = _PUSH_GET if params.get("pushNotificationConfigId") is not None else _PUSH_ANY
    return await method.do(call, params)


async def _once(task: Task) -> Items:
    yield Item(int(task.metadata["generation"]), StreamResponse(task=task))


_PUSH_SET = _converted("CreateTaskPushNotificationConfig", requests.push_set, results.push_config)
_PUSH_GET = _converted("GetTaskPushNotificationConfig", requests.push_one, results.push_config)
_PUSH_ANY = _converted("ListTaskPushNotificationConfigs", requests.push_list, results.any_push_config)

#: Those that answer once, by their JSON-RPC names.
UNARY: dict[str, Method] = {
    "message/send": _converted("SendMessage", requests.send, results.sent),
    "tasks/get": _converted("GetTask", requests.get, results.task),
    "tasks/cancel": _converted("CancelTask", requests.task, results.task),
    "tasks/pushNotificationConfig/set": Method("CreateTaskPushNotificationConfig", set_push_config),
    "tasks/pushNotificationConfig/get": Method("GetTaskPushNotificationConfig", get_push_config),
    "tasks/pushNotificationConfig/list": _converted(
        "ListTaskPushNotificationConfigs", requests.push_list, results.push_configs
    ),
    "tasks/pushNotificationConfig/delete": _converted(
        "DeleteTaskPushNotificationConfig", requests.push_one, results.nothing
    ),
    "agent/getAuthenticatedExtendedCard": _converted("GetExtendedAgentCard", requests.nothing, results.card),
}
#: Those that stream.
STREAMING: dict[str, Method] = {
    "message/stream": Method("SendStreamingMessage", send_streaming),
    "tasks/resubscribe": Method("SubscribeToTask", resubscribe),
}
