"""The gRPC binding (A2A 1.0, section 10): the service as its descriptor declares it, on the same operations.

One address serves every agent: the request's ``tenant`` names the agent, none is the default one. The SDK's servicer is
not used: it checks no version, knows no authentication, and answers errors that are not A2A's with UNKNOWN.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
from a2a.types import a2a_pb2
from django.conf import settings
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2  # noqa: F401 (registers the details that errors are packed in)
from google.rpc.status_pb2 import Status

from tasks_app import operations
from tasks_app.a2a import extensions, parse, versions
from tasks_app.a2a.errors import A2AError, ResourceExhaustedError, details, failed, invalid, mapped
from tasks_app.a2a.wire import Event, Submitted
from tasks_app.authentication import Forbidden, Unauthenticated
from tasks_app.operations import Call, Params
from tasks_app.web import web

log = logging.getLogger(__name__)

SERVICE = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]
#: Its own header of the details of an error (gRPC's richer error model).
DETAILS = "grpc-status-details-bin"
EXTENSIONS = [name.lower() for name in extensions.HEADERS]

#: A grpc.aio.ServicerContext; the library has no types.
Context = Any


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the service. Requests come as bytes, so that one that is none is the client's fault, not ours."""

    name: str
    asks: type[Proto]
    answers: type[Proto]

    async def unary(self, data: bytes, context: Context) -> Proto:
        """The operation's answer."""
        try:
            params = self._params(data)
            return self._answer(await operations.UNARY[self.name](await self._call(params, context), params))
        except Exception as error:
            await refuse(context, error)
            raise AssertionError("unreachable") from error

    async def stream(self, data: bytes, context: Context) -> AsyncIterator[Proto]:
        """The operation's events."""
        try:
            params = self._params(data)
            items = await operations.STREAMING[self.name](await self._call(params, context), params)
            async for item in items:
                if item is not None:  # HTTP/2 keeps a silent connection alive by itself
                    yield self._answer(item.response)
        except Exception as error:
            await refuse(context, error)

    def _params(self, data: bytes) -> Params:
        """The request as ProtoJSON, whose whole numbers are whole. Raises InvalidParamsError."""
        try:
            params: dict[str, Any] = MessageToDict(self.asks.FromString(data))
        except (DecodeError, ValueError) as error:
            raise invalid("request", f"is no {self.asks.DESCRIPTOR.name}: {error}"[:300]) from None
        parse.check_depth(params)
        for holder in (params, params.get("message", {})):
            if "metadata" in holder:
                holder["metadata"] = parse.whole(holder["metadata"])
        return params

    async def _call(self, params: Params, context: Context) -> Call:
        said = _metadata(context)
        caller = await web().caller(said, peer_of(context.peer()))
        versions.check(versions.spoken(said, {}), of=f"the service {SERVICE.full_name}")
        spec = operations.agent_at(None, params.get("tenant"))
        asked = [value for name, value in context.invocation_metadata() or () if name in EXTENSIONS]
        call = Call.made(
            caller=caller, spec=spec, method=self.name, asked=asked, base_url=settings.A2A_PUBLIC_URL.rstrip("/")
        )
        if call.extensions:
            await context.send_initial_metadata(
                tuple((name.lower(), value) for name, value in extensions.echoed(call.extensions).items())
            )
        return call

    def _answer(self, result: Any) -> Proto:
        if isinstance(result, Event):
            return result.proto()
        return self.answers(task=result.task()) if isinstance(result, Submitted) else result


def handler() -> grpc.GenericRpcHandler:
    """Every method of the service that is an operation; the others are UNIMPLEMENTED."""
    handlers = {}
    for declared in SERVICE.methods:
        method = Method(declared.name, GetMessageClass(declared.input_type), GetMessageClass(declared.output_type))
        if declared.name in operations.STREAMING:
            handlers[declared.name] = grpc.unary_stream_rpc_method_handler(
                method.stream, response_serializer=method.answers.SerializeToString
            )
        elif declared.name in operations.UNARY:
            handlers[declared.name] = grpc.unary_unary_rpc_method_handler(
                method.unary, response_serializer=method.answers.SerializeToString
            )
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


def server() -> grpc.aio.Server:
    """A server of the binding on the running loop, not yet at any address."""
    from grpc_reflection.v1alpha import reflection

    made = grpc.aio.server(options=[("grpc.max_receive_message_length", settings.A2A_MAX_BODY_BYTES)])
    made.add_generic_rpc_handlers((handler(),))
    reflection.enable_server_reflection((SERVICE.full_name, reflection.SERVICE_NAME), made)
    return made


async def refuse(context: Context, error: Exception) -> None:
    """Ends the call with the error's status and details (section 10.6)."""
    if isinstance(error, Unauthenticated | Forbidden):
        code = "UNAUTHENTICATED" if isinstance(error, Unauthenticated) else "PERMISSION_DENIED"
        await context.abort(grpc.StatusCode[code], str(error), _sent(error.headers))
    if not isinstance(error, A2AError):
        log.error("gRPC: a call failed", exc_info=error)
        error = failed()
    code = grpc.StatusCode[mapped(error).grpc_status]
    packed = [ParseDict(detail, AnyProto()) for detail in details(error)]
    status = Status(code=code.value[0], message=error.message, details=packed)
    trailing: list[tuple[str, str | bytes]] = [(DETAILS, status.SerializeToString())]
    if isinstance(error, ResourceExhaustedError):
        trailing.append(("retry-after", str(error.retry_after_s)))
    await context.abort(code, error.message, tuple(trailing))


def _sent(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers as gRPC sends them."""
    return tuple((name.lower(), value) for name, value in headers.items())


def peer_of(peer: str) -> str | None:
    """The address in what gRPC says of a peer: ``ipv4:127.0.0.1:5000``, ``ipv6:%5B::1%5D:5000``."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else None


def _metadata(context: Context) -> Mapping[str, str]:
    """The text headers of a call, by their lower-case names; of one that is said twice the last counts."""
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
