"""0.3's HTTP+JSON binding (A2A 0.3, section 3.5): its paths below ``v1/``, at each agent's address and at the root.

Its JSON is that of 0.3's protobuf, as a2a-sdk 0.3 has it. Not there: ``GET v1/tasks``, which 0.3 names and nowhere
describes.
"""

from __future__ import annotations

from typing import Any

import orjson
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb2
from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.routing import Route

from tasks_app.a2a import rest, versions
from tasks_app.a2a.dialect import Dialect, Streaming, Unary
from tasks_app.a2a.errors import invalid
from tasks_app.a2a.v0_3 import errors, methods, protojson, results
from tasks_app.operations import Item, Params


async def _message(request: Request) -> Params:
    return protojson.send(protojson.parsed(await rest.body(request), pb2.SendMessageRequest()))


async def _task(request: Request) -> Params:
    await rest.body(request)
    return {"id": request.path_params["id"]}


async def _get(request: Request) -> Params:
    text = request.query_params.get("historyLength", request.query_params.get("history_length", "0"))
    if not text.removeprefix("-").isdecimal() or not text.isascii():
        raise invalid("historyLength", "must be a whole number")
    return {**await _task(request), "historyLength": int(text[:20])}


async def _push_set(request: Request) -> Params:
    """The body is the whole request of the proto, as the SDK's client sends it, or its config, as the proto says."""
    body = await rest.body(request)
    whole = {**(body if "config" in body else {"config": body}), "parent": f"tasks/{request.path_params['id']}"}
    return protojson.push_set(protojson.parsed(whole, pb2.CreateTaskPushNotificationConfigRequest()))


async def _push_one(request: Request) -> Params:
    return {"id": request.path_params["id"], "pushNotificationConfigId": request.path_params["config_id"]}


async def _nothing(request: Request) -> Params:
    return {}


def _as_json(method: str) -> Any:
    """What renders the method's answer. A card is JSON-RPC's here too: so do the SDK's client and server have it."""
    if method == "agent/getAuthenticatedExtendedCard":
        return results.as_json
    return lambda result: MessageToDict(protojson.ANSWERS[method](result))


def _event(item: Item) -> bytes:
    return orjson.dumps(MessageToDict(protojson.event(item)))


VERSION = rest.Version(
    number=versions.V0_3,
    dialect=Dialect(
        unary={name: Unary(*method, _as_json(name)) for name, method in methods.UNARY.items()},
        streaming={name: Streaming(*method, _event) for name, method in methods.STREAMING.items()},
    ),
    error=lambda error, status: errors.http_error(error),
    denied=lambda error, status: {"message": str(error)},
    media_type=lambda request: rest.JSON,
)
PATHS: list[rest.Path] = [
    ("POST", "message:send", "message/send", _message),
    ("POST", "message:stream", "message/stream", _message),
    ("GET", "tasks/{id}", "tasks/get", _get),
    ("POST", "tasks/{id}:cancel", "tasks/cancel", _task),
    # The text says POST, the proto GET: both.
    ("POST", "tasks/{id}:subscribe", "tasks/resubscribe", _task),
    ("GET", "tasks/{id}:subscribe", "tasks/resubscribe", _task),
    ("POST", rest.CONFIGS, "tasks/pushNotificationConfig/set", _push_set),
    ("GET", rest.CONFIGS, "tasks/pushNotificationConfig/list", _task),
    ("GET", f"{rest.CONFIGS}/{{config_id}}", "tasks/pushNotificationConfig/get", _push_one),
    ("DELETE", f"{rest.CONFIGS}/{{config_id}}", "tasks/pushNotificationConfig/delete", _push_one),
    ("GET", "card", "agent/getAuthenticatedExtendedCard", _nothing),
]
PREFIXES = ("/a2a/{agent}/v1/", "/v1/")


def routes() -> list[Route]:
    """They stand before those of 1.0, which would take ``v1`` for a tenant."""
    return rest.routes(VERSION, PATHS, PREFIXES)
