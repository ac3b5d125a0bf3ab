"""Every method of 0.3: the operation that does it, and what is converted on the way there and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from a2a.types import StreamResponse

from tasks_app import operations
from tasks_app.a2a.errors import UnsupportedOperationError
from tasks_app.a2a.v0_3 import requests, results
from tasks_app.operations import Call, Item, Params


@dataclass(frozen=True, slots=True)
class Method:
    """A method that answers once. ``params`` and ``result`` convert from 0.3 and to it."""

    operation: str
    params: Callable[[Params], Params]
    result: Callable[[Any], Any]

    async def __call__(self, call: Call, params: Params) -> Any:
        """0.3's object, or a list of them, or None. Raises A2A's errors."""
        operation = operations.UNARY.get(self.operation)
        if operation is None:
            raise UnsupportedOperationError(f"{self.operation} is not supported")
        return self.result(await operation(call, self.params(params)))


async def send_streaming(call: Call, params: Params) -> AsyncIterator[Item]:
    """Of ``message/stream``; each item is still 1.0's."""
    return await operations.send_streaming_message(call, requests.send(params))


async def resubscribe(call: Call, params: Params) -> AsyncIterator[Item]:
    """Of ``tasks/resubscribe``: until the task has ended or waits for input. One that has ended comes once, as it is.

    So says 0.3's proto of TaskSubscription; in 1.0 the first goes on, and the second is an error.
    """
    wanted = requests.task(params)
    try:
        return _until_settled(await operations.subscribe_to_task(call, wanted))
    except UnsupportedOperationError:
        return _once(await operations.get_task(call, {"id": wanted["id"]}))


async def get_push_config(call: Call, params: Params) -> Any:
    """Of ``tasks/pushNotificationConfig/get``, which need not say which one: 0.2 has but one."""
    method = _PUSH_GET if params.get("pushNotificationConfigId") is not None else _PUSH_ANY
    return await method(call, params)


async def _until_settled(items: AsyncIterator[Item]) -> AsyncIterator[Item]:
    async for item in items:
        yield item
        if item.settled:
            return


async def _once(task: Any) -> AsyncIterator[Item]:
    yield Item(int(task.metadata["generation"]), StreamResponse(task=task))


_PUSH_GET = Method("GetTaskPushNotificationConfig", requests.push_one, results.push_config)
_PUSH_ANY = Method("ListTaskPushNotificationConfigs", requests.push_list, results.any_push_config)

#: Those that answer once, by their JSON-RPC names.
UNARY: Mapping[str, Callable[[Call, Params], Any]] = {
    "message/send": Method("SendMessage", requests.send, results.sent),
    "tasks/get": Method("GetTask", requests.get, results.task),
    "tasks/cancel": Method("CancelTask", requests.task, results.task),
    "tasks/pushNotificationConfig/set": Method(
        "CreateTaskPushNotificationConfig", requests.push_set, results.push_config
    ),
    "tasks/pushNotificationConfig/get": get_push_config,
    "tasks/pushNotificationConfig/list": Method(
        "ListTaskPushNotificationConfigs", requests.push_list, results.push_configs
    ),
    "tasks/pushNotificationConfig/delete": Method(
        "DeleteTaskPushNotificationConfig", requests.push_one, results.nothing
    ),
    "agent/getAuthenticatedExtendedCard": Method("GetExtendedAgentCard", requests.nothing, results.card),
}
#: Those that stream.
STREAMING: Mapping[str, Callable[[Call, Params], Any]] = {
    "message/stream": send_streaming,
    "tasks/resubscribe": resubscribe,
}
