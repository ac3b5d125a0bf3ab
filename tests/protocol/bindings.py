"""The three bindings of A2A behind one face, so that one suite holds for all of them (A2A 1.0, section 5).

Requests and results are ProtoJSON; what is refused is a :class:`Refused` with the code that the binding gave it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import grpc
from a2a.types import a2a_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2  # noqa: F401 (registers the details)
from google.rpc.status_pb2 import Status

from tests.protocol.doors import LOOPBACK, Doors

VERSION = {"a2a-version": "1.0"}
STREAMING = ("SendStreamingMessage", "SubscribeToTask")
SERVICE = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]

#: The detail that says which of A2A's errors it is (sections 9.5, 10.6, 11.6).
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

#: The path of every operation below an agent's address, and its verb (section 5.3).
PATHS = {
    "SendMessage": ("POST", "message:send"),
    "SendStreamingMessage": ("POST", "message:stream"),
    "GetTask": ("GET", "tasks/{id}"),
    "ListTasks": ("GET", "tasks"),
    "CancelTask": ("POST", "tasks/{id}:cancel"),
    "SubscribeToTask": ("POST", "tasks/{id}:subscribe"),
    "CreateTaskPushNotificationConfig": ("POST", "tasks/{taskId}/pushNotificationConfigs"),
    "GetTaskPushNotificationConfig": ("GET", "tasks/{taskId}/pushNotificationConfigs/{id}"),
    "ListTaskPushNotificationConfigs": ("GET", "tasks/{taskId}/pushNotificationConfigs"),
    "DeleteTaskPushNotificationConfig": ("DELETE", "tasks/{taskId}/pushNotificationConfigs/{id}"),
    "GetExtendedAgentCard": ("GET", "extendedAgentCard"),
}


@dataclass
class Refused(Exception):
    """``code`` is JSON-RPC's, HTTP's or gRPC's; ``reason``, ``domain`` and ``fields`` are those of the details."""

    code: Any
    message: str
    reason: str
    fields: set[str] = field(default_factory=set)
    headers: Mapping[str, str] = field(default_factory=dict)
    domain: str = ""


class Event(NamedTuple):
    """One event of a stream; the id is the generation where the binding has ids, else 0."""

    id: int
    data: dict[str, Any]


class Binding(Protocol):
    """What the contract is tested through."""

    name: str

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> dict[str, Any]: ...

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]: ...


class JsonRpc:
    name = "jsonrpc"

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> dict[str, Any]:
        reply = self._send(method, params, agent, headers)
        answer = reply.json()
        if reply.status_code in (401, 403):
            raise Refused(reply.status_code, answer["detail"], "", headers=reply.headers)
        if "error" not in answer:
            return dict(answer["result"])
        raise refused(answer["error"]["code"], answer["error"]["message"], answer["error"]["data"], reply.headers)

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]:
        reply = self._send(method, params, agent, headers)
        if reply.headers["content-type"].startswith("application/json"):
            self.call(method, params, agent=agent, **headers)
        return [Event(event.id, event.data["result"]) for event in sse_events(reply.text)]

    def _send(self, method: str, params: dict[str, Any], agent: str, headers: dict[str, str]) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self._doors.send("POST", f"/a2a/{agent}/", json=body, headers=VERSION | named(headers))


class Rest:
    name = "rest"

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> dict[str, Any]:
        reply = self._send(method, params, agent, headers)
        if reply.status_code == 200:
            return dict(reply.json())
        error = reply.json()["error"]
        assert error["code"] == reply.status_code
        raise refused(reply.status_code, error["message"], error["details"], reply.headers)

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]:
        reply = self._send(method, params, agent, headers)
        if reply.status_code == 200:
            return sse_events(reply.text)
        error = reply.json()["error"]
        raise refused(reply.status_code, error["message"], error["details"], reply.headers)

    def _send(self, method: str, params: dict[str, Any], agent: str, headers: dict[str, str]) -> Any:
        verb, path = PATHS[method]
        rest = {name: value for name, value in params.items() if "{" + name + "}" not in path}
        ids = {name: quote(str(params[name]), safe="") for name in params if name not in rest}
        where = {"json": rest} if verb == "POST" else {"params": {name: text(value) for name, value in rest.items()}}
        return self._doors.send(verb, f"/a2a/{agent}/{path.format(**ids)}", headers=VERSION | named(headers), **where)


class Grpc:
    """Over a real socket; the tenant names the agent."""

    name = "grpc"

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> dict[str, Any]:
        return dict(self._ask(method, params, agent, headers)[0])

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]:
        return [Event(0, data) for data in self._ask(method, params, agent, headers)]

    def _ask(self, method: str, params: dict[str, Any], agent: str, headers: dict[str, str]) -> list[dict[str, Any]]:
        declared = SERVICE.methods_by_name[method]
        request = ParseDict({"tenant": agent, **params}, GetMessageClass(declared.input_type)())
        answers = GetMessageClass(declared.output_type)
        metadata = tuple((VERSION | named(headers)).items())

        async def ask(channel: grpc.aio.Channel) -> list[dict[str, Any]]:
            path = f"/{SERVICE.full_name}/{method}"
            if method in STREAMING:
                many = channel.unary_stream(path, response_deserializer=answers.FromString)
                call = many(request.SerializeToString(), metadata=metadata, timeout=30)
                return [MessageToDict(answer) async for answer in call]
            one = channel.unary_unary(path, response_deserializer=answers.FromString)
            return [MessageToDict(await one(request.SerializeToString(), metadata=metadata, timeout=30))]

        try:
            return list(self._doors.ask(lambda _: over_grpc(ask)))
        except grpc.aio.AioRpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            status = Status.FromString(trailing.pop("grpc-status-details-bin", b""))
            details = [MessageToDict(detail) for detail in status.details]
            raise refused(error.code().name, error.details() or "", details, trailing) from None


BINDINGS = {binding.name: binding for binding in (JsonRpc, Rest, Grpc)}


async def over_grpc(ask: Callable[[grpc.aio.Channel], Awaitable[Any]]) -> Any:
    """What the coroutine returns, given a channel to a server of its own."""
    from tasks_app.a2a.grpc import server

    serving = server()
    port = serving.add_insecure_port(f"{LOOPBACK}:0")
    await serving.start()
    try:
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            return await ask(channel)
    finally:
        await serving.stop(None)


def refused(code: Any, message: str, details: list[dict[str, Any]], headers: Mapping[str, str]) -> Refused:
    kinds = {item["@type"]: item for item in details}
    info = kinds.get(ERROR_INFO, {"reason": "", "domain": ""})
    fields = {item["field"] for detail in details for item in detail.get("fieldViolations", [])}
    return Refused(code, message, info["reason"], fields, headers, info["domain"])


def sse_events(text: str) -> list[Event]:
    """The events of a stream that has ended."""
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            events.append(Event(int(lines["id"]), json.loads(lines["data"])))
    return events


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def text(value: Any) -> str:
    """A value as a query says it."""
    return json.dumps(value) if isinstance(value, bool | int) else str(value)
