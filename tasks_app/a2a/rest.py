"""The HTTP+JSON binding (A2A 1.0, section 11): a path for every operation, below each agent's address and the root.

Starlette routes, as the JSON-RPC binding. Not the REST door of ``tasks_app/api``, whose words are the product's own.
0.3's paths are its own (``v0_3/rest``); they answer by the same endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from a2a.types import GetTaskRequest, ListTaskPushNotificationConfigsRequest, ListTasksRequest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks_app import operations
from tasks_app.a2a import agent_card, calls, extensions, http, parse, sse, versions
from tasks_app.a2a.dialect import V1_0, Dialect, Streaming
from tasks_app.a2a.errors import (
    A2AError,
    InvalidRequestError,
    ResourceExhaustedError,
    failed,
    http_error,
    invalid,
    mapped,
)
from tasks_app.authentication import Forbidden, Unauthenticated
from tasks_app.operations import Params

log = logging.getLogger(__name__)

#: A task's webhooks, below an address.
CONFIGS = "tasks/{id}/pushNotificationConfigs"
A2A_JSON, JSON = "application/a2a+json", "application/json"
#: What an operation's answer says of caches: an extended card is its caller's alone (section 13.3).
CACHING = {
    "GetExtendedAgentCard": {
        "Cache-Control": f"private, max-age={agent_card.MAX_AGE_S}",
        "Vary": "Authorization, X-API-Key",
    }
}

Read = Callable[[Request], Awaitable[Params]]
#: (method, path below an agent's address, operation, where its params are).
Path = tuple[str, str, str, Read]
Headers = dict[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of the protocol over HTTP+JSON, by whose names the routes call its methods.

    ``error`` is the body for an error, given its status, ``denied`` for one of authentication; ``media_type`` is that
    of an answer.
    """

    number: str
    dialect: Dialect
    error: Callable[[A2AError, int], dict[str, Any]]
    denied: Callable[[Unauthenticated | Forbidden, int], dict[str, Any]]
    media_type: Callable[[Request], str]

    def answer(self, request: Request, data: Any, *, status: int = 200, headers: Headers = None) -> Response:
        body = orjson.dumps(data)
        return Response(body, status_code=status, media_type=self.media_type(request), headers=headers)

    def refuse(
        self, request: Request, error: A2AError, *, status: int | None = None, headers: Headers = None
    ) -> Response:
        """``status`` takes the place of the error's own."""
        status = mapped(error).http_code if status is None else status
        return self.answer(request, self.error(error, status), status=status, headers=headers)

    def deny(self, request: Request, error: Unauthenticated | Forbidden) -> Response:
        status = 401 if isinstance(error, Unauthenticated) else 403
        return self.answer(request, self.denied(error, status), status=status, headers=error.headers)


def endpoint(version: Version, method: str, read: Read) -> Callable[[Request], Awaitable[Response]]:
    """The route's endpoint: the version's method, with the params that ``read`` finds in the request."""
    dialect = version.dialect

    async def answer(request: Request) -> Response:
        try:
            caller = await http.caller(request)
            versions.check(versions.spoken(request.headers, http.query(request)), of="this path", to=version.number)
            spec = operations.agent_at(request.path_params.get("agent"), request.path_params.get("tenant"))
            params = await read(request)
            # The body may name the tenant too, and then the same one.
            operations.agent_at(spec.name, params.get("tenant"))
            call = calls.made_by(request, caller, spec, dialect.operation(method))
            headers = extensions.echoed(call.extensions) | CACHING.get(call.method, {})
            if method in dialect.streaming:
                streaming = dialect.streaming[method]
                return sse.Stream(_events(await streaming.do(call, params), streaming), headers=headers)
            return version.answer(request, await dialect.unary[method].answer(call, params), headers=headers)
        except (Unauthenticated, Forbidden) as error:
            return version.deny(request, error)
        except http.BodyTooLarge as error:
            return version.refuse(request, InvalidRequestError(f"body: {error}"), status=413)
        except ResourceExhaustedError as error:
            return version.refuse(request, error, headers=error.headers)
        except A2AError as error:
            return version.refuse(request, error)
        except Exception:
            log.exception("HTTP+JSON: a call failed")
            return version.refuse(request, failed())

    return answer


# What a request says -------------------------------------------------------------------------------------------------


async def body(request: Request) -> Params:
    """The body's object; nothing is an empty one."""
    data = await http.body(request)
    if not data:
        return {}
    http.check_content_type(request)
    try:
        params = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from None
    if not isinstance(params, dict):
        raise InvalidRequestError("the body must be a JSON object")
    parse.check_depth(params)
    return params


async def _body_of_task(request: Request) -> Params:
    return {**await body(request), "id": request.path_params["id"]}


async def _task(request: Request) -> Params:
    return {**_query(request.query_params, GetTaskRequest.DESCRIPTOR), "id": request.path_params["id"]}


async def _body_of_config(request: Request) -> Params:
    return {**await body(request), "taskId": request.path_params["id"]}


async def _configs(request: Request) -> Params:
    said = _query(request.query_params, ListTaskPushNotificationConfigsRequest.DESCRIPTOR)
    return {**said, "taskId": request.path_params["id"]}


async def _config(request: Request) -> Params:
    return {"taskId": request.path_params["id"], "id": request.path_params["config_id"]}


async def _nothing(request: Request) -> Params:
    return {}


async def _list(request: Request) -> Params:
    return _query(request.query_params, ListTasksRequest.DESCRIPTOR)


def _query(query: QueryParams, descriptor: Descriptor) -> dict[str, Any]:
    """The parameters of a query that a request has, as ProtoJSON; of one that is said twice the last counts.

    Raises InvalidParamsError for what ProtoJSON would take for something else.
    """
    fields = {field.json_name: field for field in descriptor.fields}
    return {name: _value(name, text, fields[name]) for name, text in query.items() if name in fields}


def _value(name: str, text: str, field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in ("true", "false"):
            raise invalid(name, "must be true or false")
        return text == "true"
    if field.type == FieldDescriptor.TYPE_INT32 and not text.lstrip("-").isdecimal():
        raise invalid(name, "must be a whole number")
    return text


# What is answered ----------------------------------------------------------------------------------------------------


async def _events(items: AsyncIterator[Any], method: Streaming) -> AsyncIterator[bytes | None]:
    async for item in items:
        yield item and sse.event(item.generation, method.event(item))


def _media_type(request: Request) -> str:
    """A2A's own, unless the client asks for plain JSON (section 11.1)."""
    accept = request.headers.get("accept", "")
    return JSON if JSON in accept and A2A_JSON not in accept else A2A_JSON


def _denied(error: Unauthenticated | Forbidden, status: int) -> dict[str, Any]:
    name = "UNAUTHENTICATED" if status == 401 else "PERMISSION_DENIED"
    return {"error": {"code": status, "status": name, "message": str(error), "details": []}}


VERSION = Version(
    number=versions.V1_0,
    dialect=V1_0,
    error=lambda error, status: http_error(error, status=status),
    denied=_denied,
    media_type=_media_type,
)
PATHS: list[Path] = [
    ("POST", "message:send", "SendMessage", body),
    ("POST", "message:stream", "SendStreamingMessage", body),
    ("GET", "tasks", "ListTasks", _list),
    ("GET", "tasks/{id}", "GetTask", _task),
    ("POST", "tasks/{id}:cancel", "CancelTask", _body_of_task),
    # Section 11.3.2 says POST, the normative proto GET: both (A2A#1574).
    ("POST", "tasks/{id}:subscribe", "SubscribeToTask", _body_of_task),
    ("GET", "tasks/{id}:subscribe", "SubscribeToTask", _task),
    ("POST", CONFIGS, "CreateTaskPushNotificationConfig", _body_of_config),
    ("GET", CONFIGS, "ListTaskPushNotificationConfigs", _configs),
    ("GET", f"{CONFIGS}/{{config_id}}", "GetTaskPushNotificationConfig", _config),
    ("DELETE", f"{CONFIGS}/{{config_id}}", "DeleteTaskPushNotificationConfig", _config),
    ("GET", "extendedAgentCard", "GetExtendedAgentCard", _nothing),
]
PREFIXES = ("/a2a/{agent}/", "/a2a/{agent}/{tenant}/", "/", "/{tenant}/")


def routes(
    version: Version = VERSION, paths: Sequence[Path] = PATHS, prefixes: Sequence[str] = PREFIXES
) -> list[Route]:
    """Those of every address. A path with ``:`` stands before the one that would take its end for a part of an id."""
    ordered = sorted(paths, key=lambda path: ":" not in path[1])
    return [
        Route(prefix + path, endpoint(version, operation, read), methods=[method])
        for prefix in prefixes
        for method, path, operation, read in ordered
    ]
