"""0.3's gRPC binding (A2A 0.3, section 3.2.2): a service of its own in the same server.

It knows no tenant, so it is the default agent's. The SDK's servicer is not used, for the reasons that 1.0's is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb2
from google.protobuf.message_factory import GetMessageClass

from tasks_app.a2a import grpc as binding
from tasks_app.a2a import versions
from tasks_app.a2a.v0_3 import errors, methods, protojson
from tasks_app.operations import Params

SERVICE = pb2.DESCRIPTOR.services_by_name["A2AService"]

#: The service's methods: the name in JSON-RPC, and what makes its params of a request.
UNARY: dict[str, tuple[str, Callable[[Any], Params]]] = {
    "SendMessage": ("message/send", protojson.send),
    "GetTask": ("tasks/get", protojson.get),
    "CancelTask": ("tasks/cancel", protojson.task),
    "CreateTaskPushNotificationConfig": ("tasks/pushNotificationConfig/set", protojson.push_set),
    "GetTaskPushNotificationConfig": ("tasks/pushNotificationConfig/get", protojson.push_one),
    "ListTaskPushNotificationConfig": ("tasks/pushNotificationConfig/list", protojson.push_list),
    "DeleteTaskPushNotificationConfig": ("tasks/pushNotificationConfig/delete", protojson.push_one),
    "GetAgentCard": ("agent/getAuthenticatedExtendedCard", protojson.nothing),
}
STREAMING: dict[str, tuple[str, Callable[[Any], Params]]] = {
    "SendStreamingMessage": ("message/stream", protojson.send),
    "TaskSubscription": ("tasks/resubscribe", protojson.task),
}


def handler() -> grpc.GenericRpcHandler:
    """The service."""
    unary = {name: _method(name, *said, answer=protojson.ANSWERS[said[0]]) for name, said in UNARY.items()}
    streaming = {name: _method(name, *said, answer=protojson.event) for name, said in STREAMING.items()}
    return binding.handler(SERVICE.full_name, unary, streaming)


def _method(name: str, method: str, params: Callable[[Any], Params], *, answer: Callable[[Any], Any]) -> binding.Method:
    found = methods.UNARY.get(method) or methods.STREAMING[method]
    return binding.Method(
        operation=found.operation,
        number=versions.V0_3,
        asks=GetMessageClass(SERVICE.methods_by_name[name].input_type),
        params=params,
        do=found.do,
        answer=answer,
        text=errors.grpc_text,
    )
