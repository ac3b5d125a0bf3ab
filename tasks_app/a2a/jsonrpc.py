"""The JSON-RPC binding (A2A 1.0, section 9): one address per agent, and every operation under its own name.

Starlette routes: nothing of Django stands between the socket and the engine here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tasks_app import operations
from tasks_app.a2a import calls, extensions, http, parse, sse, versions, wire
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
from tasks_app.authentication import Forbidden, Unauthenticated
from tasks_app.operations import Items

log = logging.getLogger(__name__)


async def endpoint(request: Request, agent: str | None) -> Response:
    """Answers one POST to an agent's address, or to the root's, where ``agent`` is None and a tenant may name it.

    Errors are JSON-RPC errors with HTTP 200, but for 401, 403, 413 and 429.
    """
    call_id: Any = None
    try:
        caller = await http.caller(request)
        http.check_content_type(request)
        data = _decoded(await http.body(request))
        call_id = _id(data)
        _check_envelope(data)
        version = versions.spoken(request.headers, request.query_params)
        method, params = data["method"], data.get("params") or {}
        _check_method(method, version)
        call = calls.made_by(request, caller, operations.agent_at(agent, params.get("tenant")), method)
        headers = extensions.echoed(call.extensions)
        if method in operations.STREAMING:
            items = await operations.STREAMING[method](call, params)
            return sse.Stream(_events(call_id, items), headers=headers)
        result = wire.as_dict(await operations.UNARY[method](call, params))
        return _answer(call_id, result=result, headers=headers)
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except http.BodyTooLarge as error:
        return _answer(call_id, error=InvalidRequestError(f"body: {error}"), status=413)
    except ResourceExhaustedError as error:
        return _answer(call_id, error=error, status=429, headers=error.headers)
    except A2AError as error:
        return _answer(call_id, error=error)
    except Exception:
        log.exception("JSON-RPC: a call failed")
        return _answer(call_id, error=failed())


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise JSONParseError(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidRequestError("the body must be one JSON-RPC object; batches are not supported")
    parse.check_depth(data)
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


def _check_method(method: str, version: str) -> None:
    if method not in operations.UNARY and method not in operations.STREAMING:
        raise MethodNotFoundError(f"method: no method '{method[:100]}'")
    versions.check(version, of=f"the method '{method}'")


async def _events(call_id: Any, items: Items) -> AsyncIterator[bytes | None]:
    head = b'{"jsonrpc":"2.0","id":%b,"result":' % orjson.dumps(call_id)
    async for item in items:
        yield item and sse.event(item.generation, head + wire.as_json(item.response) + b"}")


def _answer(
    call_id: Any,
    *,
    result: Any = None,
    error: A2AError | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    outcome = {"result": result} if error is None else {"error": jsonrpc_error(error)}
    body = orjson.dumps({"jsonrpc": "2.0", "id": call_id, **outcome})
    return Response(body, status_code=status, media_type="application/json", headers=headers)
