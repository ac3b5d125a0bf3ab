"""0.3's bindings behind one face: what is asked and answered is what its JSON-RPC says (A2A 0.3, section 3.2).

To protobuf and back it is the SDK's conversion that goes, as in its own clients of 0.3.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import grpc
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb2
from a2a.compat.v0_3 import a2a_v0_3_pb2_grpc, types
from a2a.compat.v0_3.proto_utils import FromProto, ToProto
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.protocol.bindings import Refused, named, over_grpc, sse_events
from tests.protocol.doors import Doors

STREAMING = ("message/stream", "tasks/resubscribe")


class Event(NamedTuple):
    """One event of a stream; the id is the generation where the binding has ids, else 0."""

    id: int
    data: dict[str, Any]


class Binding(Protocol):
    """What 0.3 is tested through. What is refused is a Refused, whose reason is the error's name where it has one."""

    name: str

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> Any: ...

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]: ...


class JsonRpc:
    """Without a word of the version, as clients of 0.3 ask."""

    name = "jsonrpc"

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> Any:
        answer = self._send(method, params, agent, headers).json()
        if "error" not in answer:
            return answer["result"]
        error = answer["error"]
        raise Refused(error["code"], error["message"], "", fields(error))

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]:
        reply = self._send(method, params, agent, headers)
        if reply.headers["content-type"].startswith("application/json"):
            self.call(method, params, agent=agent, **headers)
        return [Event(event.id, event.data["result"]) for event in sse_events(reply.text)]

    def _send(self, method: str, params: dict[str, Any], agent: str, headers: dict[str, str]) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self._doors.send("POST", f"/a2a/{agent}/", json=body, headers=named(headers))


class Rest:
    """As :class:`a2a.compat.v0_3.rest_transport.CompatRestTransport` asks."""

    name = "rest"

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> Any:
        reply = self._send(method, params, agent, headers)
        if reply.status_code == 200:
            return result(ParseDict(reply.json(), ANSWERS[method]()))
        error = reply.json()
        raise Refused(reply.status_code, error["message"], error["type"], fields(error))

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]:
        reply = self._send(method, params, agent, headers)
        if reply.status_code == 200:
            events = sse_events(reply.text)
            return [Event(event.id, result(ParseDict(event.data, ANSWERS[method]()))) for event in events]
        error = reply.json()
        raise Refused(reply.status_code, error["message"], error["type"], fields(error))

    def _send(self, method: str, params: dict[str, Any], agent: str, headers: dict[str, str]) -> Any:
        verb, path = PATHS[method]
        task_id = quote(str(params.get("id", params.get("taskId"))), safe="")
        path = path.format(id=task_id, config_id=params.get("pushNotificationConfigId"))
        more: dict[str, Any] = {"headers": {"a2a-version": "0.3"} | named(headers)}
        if "message" in params:
            more["json"] = MessageToDict(asked(method, params), preserving_proto_field_name=True)
        if "historyLength" in params:
            more["params"] = {"historyLength": str(params["historyLength"])}
        return self._doors.send(verb, f"/a2a/{agent}/v1/{path}", **more)


class Grpc:
    """Over a real socket; the address is the default agent's."""

    name = "grpc"

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> Any:
        return self._ask(method, params, headers)[0]

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]:
        return [Event(0, data) for data in self._ask(method, params, headers)]

    def _ask(self, method: str, params: dict[str, Any], headers: dict[str, str]) -> list[Any]:
        async def ask(channel: grpc.aio.Channel) -> list[Any]:
            stub: Any = a2a_v0_3_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
            metadata = tuple(named(headers).items())
            call = getattr(stub, RPCS[method])(asked(method, params), metadata=metadata, timeout=30)
            return [result(answer) async for answer in call] if method in STREAMING else [result(await call)]

        try:
            return list(self._doors.ask(lambda _: over_grpc(ask)))
        except grpc.aio.AioRpcError as error:
            name, _, message = (error.details() or "").partition(": ")
            raise Refused(error.code().name, message, name) from None


BINDINGS = {binding.name: binding for binding in (JsonRpc, Rest, Grpc)}

PATHS = {
    "message/send": ("POST", "message:send"),
    "message/stream": ("POST", "message:stream"),
    "tasks/get": ("GET", "tasks/{id}"),
    "tasks/cancel": ("POST", "tasks/{id}:cancel"),
    "tasks/resubscribe": ("POST", "tasks/{id}:subscribe"),
}
RPCS = {
    "message/send": "SendMessage",
    "message/stream": "SendStreamingMessage",
    "tasks/get": "GetTask",
    "tasks/cancel": "CancelTask",
    "tasks/resubscribe": "TaskSubscription",
}
ANSWERS: dict[str, Any] = {
    "message/send": pb2.SendMessageResponse,
    "message/stream": pb2.StreamResponse,
    "tasks/get": pb2.Task,
    "tasks/cancel": pb2.Task,
    "tasks/resubscribe": pb2.StreamResponse,
}


def asked(method: str, params: dict[str, Any]) -> Any:
    """The proto of a request."""
    if method in ("message/send", "message/stream"):
        said = types.MessageSendParams.model_validate(params)
        config = said.configuration
        return pb2.SendMessageRequest(
            request=ToProto.message(said.message),
            configuration=None if config is None else ToProto.message_send_configuration(config),
            metadata=ToProto.metadata(said.metadata),
        )
    name = f"tasks/{params['id']}"
    if method == "tasks/get":
        return pb2.GetTaskRequest(name=name, history_length=params.get("historyLength", 0))
    return (pb2.CancelTaskRequest if method == "tasks/cancel" else pb2.TaskSubscriptionRequest)(name=name)


def result(answer: Any) -> dict[str, Any]:
    """What a proto says, as JSON-RPC says it."""
    if isinstance(answer, pb2.StreamResponse):
        made: Any = FromProto.stream_response(answer)
    else:
        made = FromProto.task(answer.task if isinstance(answer, pb2.SendMessageResponse) else answer)
    return dict(made.model_dump(mode="json", by_alias=True, exclude_none=True))


def fields(error: dict[str, Any]) -> set[str]:
    return {item["field"] for item in error.get("data", {}).get("errors", [])}
