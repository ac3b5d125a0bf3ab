"""The JSON-RPC binding (A2A 1.0, section 9): one address per agent, and every operation under its own name.

The older versions' methods are called at the same address; which version it is tells how they are answered.

Starlette routes: nothing of Django stands between the socket and the engine here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tasks_app import operations
from tasks_app.a2a import calls, extensions, http, parse, sse, versions
from tasks_app.a2a.dialect import V1_0, Dialect, Streaming
from tasks_app.a2a.errors import (
    A2AError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
    ResourceExhaustedError,
    failed,
    invalid,
    jsonrpc_error,
)
from tasks_app.a2a.v0_1 import methods as v0_1
from tasks_app.a2a.v0_3.errors import jsonrpc_error as v0_3_error
from tasks_app.a2a.v0_3.jsonrpc import V0_3
from tasks_app.authentication import Forbidden, Unauthenticated

log = logging.getLogger(__name__)


class Version(NamedTuple):
    """A version of the protocol over JSON-RPC; ``error`` is the error object of an error."""

    dialect: Dialect
    error: Callable[[A2AError], dict[str, Any]]


#: 0.3, and 0.1 with it: neither need say its version.
OLDER = Dialect(unary={**V0_3.unary, **v0_1.UNARY}, streaming={**V0_3.streaming, **v0_1.STREAMING})
VERSIONS = {
    versions.V1_0: Version(V1_0, jsonrpc_error),
    versions.V0_3: Version(OLDER, v0_3_error),
}


async def endpoint(request: Request, agent: str | None) -> Response:
    """Answers one POST to an agent's address, or to the root's, where ``agent`` is None and a tenant may name it.

    Errors are JSON-RPC errors with HTTP 200, but for 401, 403, 413 and 429.
    """
    call_id: Any = None
    version = VERSIONS[versions.V1_0]
    try:
        caller = await http.caller(request)
        http.check_content_type(request)
        data = _decoded(await http.body(request))
        call_id = _id(data)
        parse.check_depth(data)
        _check_envelope(data)
        method, params = data["method"], data.get("params") or {}
        version = _version(versions.spoken(request.headers, http.query(request)), method)
        dialect = version.dialect
        _check_method(method, dialect)
        spec = operations.agent_at(agent, params.get("tenant"))
        call = calls.made_by(request, caller, spec, dialect.operation(method))
        headers = extensions.echoed(call.extensions)
        if method in dialect.streaming:
            streaming = dialect.streaming[method]
            return sse.Stream(_events(call_id, await streaming.do(call, params), streaming), headers=headers)
        return _answer(call_id, {"result": await dialect.unary[method].answer(call, params)}, headers=headers)
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except http.BodyTooLarge as error:
        too_large = InvalidRequestError(f"body: {error}")
        return _answer(call_id, {"error": version.error(too_large)}, status=413)
    except ResourceExhaustedError as error:
        return _answer(call_id, {"error": version.error(error)}, status=429, headers=error.headers)
    except A2AError as error:
        return _answer(call_id, {"error": version.error(error)})
    except Exception:
        log.exception("JSON-RPC: a call failed")
        return _answer(call_id, {"error": version.error(failed())})


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise JSONParseError(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidRequestError("the body must be one JSON-RPC object; batches are not supported")
    return data


def _id(data: dict[str, Any]) -> Any:
    """The call's id, which its answer repeats."""
    call_id = data.get("id")
    if not isinstance(call_id, str | int | None) or isinstance(call_id, bool):
        raise InvalidRequestError("id: must be a string or a number")
    return call_id


def _check_envelope(data: dict[str, Any]) -> None:
    if data.get("jsonrpc") != "2.0":
        raise InvalidRequestError("jsonrpc: must be '2.0'")
    if not isinstance(data.get("method"), str):
        raise InvalidRequestError("method: is required")
    if not isinstance(data.get("params", {}), dict | None):
        raise invalid("params", "must be an object")


def _version(number: str, method: str) -> Version:
    """How the call is answered. Raises VersionNotSupportedError for a method of 1.0 in a call of an older version."""
    if method in V1_0:
        versions.check(number, of=f"the method '{method}'")
    return VERSIONS[number]


def _check_method(method: str, dialect: Dialect) -> None:
    if method not in dialect:
        raise MethodNotFoundError(f"method: no method '{method[:100]}'")


async def _events(call_id: Any, items: AsyncIterator[Any], method: Streaming) -> AsyncIterator[bytes | None]:
    head = b'{"jsonrpc":"2.0","id":%b,"result":' % orjson.dumps(call_id)
    async for item in items:
        yield item and sse.event(item.generation, head + method.event(item) + b"}")


def _answer(
    call_id: Any, outcome: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    body = orjson.dumps({"jsonrpc": "2.0", "id": call_id, **outcome})
    return Response(body, status_code=status, media_type="application/json", headers=headers)
