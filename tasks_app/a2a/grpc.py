"""The gRPC binding (A2A 1.0, section 10): the service as its descriptor declares it, on the same operations.

One address serves every agent: the request's ``tenant`` names the agent, none is the default one. The SDK's servicer is
not used: it checks no version, knows no authentication, and answers errors that are not A2A's with UNKNOWN.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
from a2a.types import a2a_pb2
from django.conf import settings
from google.protobuf import json_format
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
from tasks_app.authentication import Caller, Forbidden, Unauthenticated
from tasks_app.operations import Call, Item, Params
from tasks_app.web import web

log = logging.getLogger(__name__)

SERVICE = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]
#: Its own header of the details of an error (gRPC's richer error model).
DETAILS = "grpc-status-details-bin"
#: A client that does not answer pings is gone, with its streams; one that pings more often than it must is put up with.
KEEP_ALIVE = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
EXTENSIONS = [name.lower() for name in extensions.HEADERS]

#: A grpc.aio.ServicerContext; the library has no types.
Context = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of a service. Requests come as bytes, so that one that is none is the client's fault, not ours.

    ``do`` is what is called with the ``params`` of a request; ``answer`` makes the service's message of its result, or
    of each item of its stream. ``number`` is the version of the protocol; ``text`` is all that one says of an error
    which knows no details.
    """

    operation: str
    number: str
    asks: type[Proto]
    params: Callable[[Proto], Params]
    do: Callable[[Call, Params], Awaitable[Any]]
    answer: Callable[[Any], Proto]
    text: Callable[[A2AError], str] | None = None

    async def unary(self, data: bytes, context: Context) -> Proto:
        """The operation's answer."""
        try:
            caller = await self._caller(context)
            params = self._params(data)
            return self.answer(await self.do(await self._call(caller, params, context), params))
        except Exception as error:
            await refuse(context, error, self.text)
            raise AssertionError("unreachable") from error

    async def stream(self, data: bytes, context: Context) -> AsyncIterator[Proto]:
        """The operation's events."""
        try:
            caller = await self._caller(context)
            params = self._params(data)
            async for item in await self.do(await self._call(caller, params, context), params):
                if item is not None:  # HTTP/2 keeps a silent connection alive by itself
                    yield self.answer(item)
        except Exception as error:
            await refuse(context, error, self.text)

    def _params(self, data: bytes) -> Params:
        """Raises InvalidParamsError."""
        try:
            return self.params(self.asks.FromString(data))
        except (DecodeError, json_format.Error, ValueError) as error:
            raise invalid("request", f"is no {self.asks.DESCRIPTOR.name}: {error}"[:300]) from None

    async def _caller(self, context: Context) -> Caller:
        """Who asks: known before anything is made of the request, which may be large."""
        said = _metadata(context)
        caller = await web().caller(said, peer_of(context.peer()))
        versions.check(versions.spoken(said, {}), of="this service", to=self.number)
        return caller

    async def _call(self, caller: Caller, params: Params, context: Context) -> Call:
        spec = operations.agent_at(None, params.get("tenant"))
        asked = [value for name, value in context.invocation_metadata() or () if name in EXTENSIONS]
        call = Call.made(
            caller=caller, spec=spec, method=self.operation, asked=asked, base_url=settings.A2A_PUBLIC_URL.rstrip("/")
        )
        if call.extensions:
            await context.send_initial_metadata(
                tuple((name.lower(), value) for name, value in extensions.echoed(call.extensions).items())
            )
        return call


def handler(service: str, unary: Mapping[str, Method], streaming: Mapping[str, Method]) -> grpc.GenericRpcHandler:
    """A service of these methods, which answer once or stream; any other is UNIMPLEMENTED."""
    once, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {name: once(method.unary, response_serializer=_serialized) for name, method in unary.items()}
    handlers |= {name: many(method.stream, response_serializer=_serialized) for name, method in streaming.items()}
    return grpc.method_handlers_generic_handler(service, handlers)


def server() -> grpc.aio.Server:
    """A server of the binding on the running loop, in both versions, not yet at any address."""
    from grpc_reflection.v1alpha import reflection

    from tasks_app.a2a.v0_3 import grpc as v0_3

    options = [("grpc.max_receive_message_length", settings.A2A_MAX_BODY_BYTES), *KEEP_ALIVE]
    made = grpc.aio.server(options=options)
    unary = {name: _method(name, do) for name, do in operations.UNARY.items()}
    streaming = {name: _method(name, do) for name, do in operations.STREAMING.items()}
    made.add_generic_rpc_handlers((handler(SERVICE.full_name, unary, streaming), v0_3.handler()))
    names = (SERVICE.full_name, v0_3.SERVICE.full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, made)
    return made


async def refuse(context: Context, error: Exception, text: Callable[[A2AError], str] | None = None) -> None:
    """Ends the call with the error's status and details (section 10.6), or with ``text`` in their place."""
    if isinstance(error, Unauthenticated | Forbidden):
        code = "UNAUTHENTICATED" if isinstance(error, Unauthenticated) else "PERMISSION_DENIED"
        await context.abort(grpc.StatusCode[code], str(error), _sent(error.headers))
    if not isinstance(error, A2AError):
        log.error("gRPC: a call failed", exc_info=error)
        error = failed()
    code = grpc.StatusCode[mapped(error).grpc_status]
    trailing: list[tuple[str, str | bytes]] = []
    if text is None:
        packed = [ParseDict(detail, AnyProto()) for detail in details(error)]
        status = Status(code=code.value[0], message=error.message, details=packed)
        trailing.append((DETAILS, status.SerializeToString()))
    if isinstance(error, ResourceExhaustedError):
        trailing.append(("retry-after", str(error.retry_after_s)))
    await context.abort(code, error.message if text is None else text(error), tuple(trailing))


def _method(name: str, do: Callable[[Call, Params], Awaitable[Any]]) -> Method:
    """The operation as 1.0's descriptor declares it."""
    declared = SERVICE.methods_by_name[name]
    answers = GetMessageClass(declared.output_type)

    def answer(result: Any) -> Proto:
        result = result.response if isinstance(result, Item) else result
        if isinstance(result, Event):
            return result.proto()
        made: Proto = answers(task=result.task()) if isinstance(result, Submitted) else result
        return made

    return Method(
        operation=name,
        number=versions.V1_0,
        asks=GetMessageClass(declared.input_type),
        params=_params,
        do=do,
        answer=answer,
    )


def _params(request: Proto) -> Params:
    """The request as ProtoJSON, whose whole numbers are whole."""
    params: dict[str, Any] = MessageToDict(request)
    parse.check_depth(params)
    for holder in (params, params.get("message", {})):
        if "metadata" in holder:
            holder["metadata"] = parse.whole(holder["metadata"])
    return params


def _serialized(message: Proto) -> bytes:
    return bytes(message.SerializeToString())


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
