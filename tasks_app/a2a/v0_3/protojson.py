"""0.3's protobuf, which its HTTP+JSON and gRPC bindings speak ↔ what its JSON-RPC says there. Pure.

Answers by the SDK; requests here, because the SDK's way drops and forgives what a client should hear of. The bytes of a
file are its base64 text: a2a-sdk 0.3 reads and writes them so in both bindings. Where they are no such text they are
taken as the bytes themselves, as the proto means them.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any

from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb2
from a2a.compat.v0_3.proto_utils import ToProto
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import Error, MessageToDict
from google.protobuf.message import Message as Proto

from tasks_app.a2a import parse
from tasks_app.a2a.errors import invalid
from tasks_app.a2a.v0_3 import results
from tasks_app.operations import Item, Params

_TASK = re.compile(r"tasks/([^/]+)")
_CONFIG = re.compile(r"tasks/([^/]+)/pushNotificationConfigs/([^/]+)")
_ROLES = {"ROLE_USER": "user", "ROLE_AGENT": "agent"}


# Requests ------------------------------------------------------------------------------------------------------------


def parsed(body: Params, into: Proto) -> Proto:
    """A body of HTTP+JSON. Raises InvalidParamsError naming the field."""
    message = _first(body, "message", "request")
    parts = _first(message, "content")
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        text = _first(_first(part, "file"), "fileWithBytes", "file_with_bytes")
        if isinstance(text, str) and not parse.is_base64(text):
            raise invalid(f"message.parts[{index}].file.bytes", "is not base64")
    return parse.proto(body, into, path="")


def send(request: pb2.SendMessageRequest) -> Params:
    """Params of ``message/send`` and ``message/stream``. A configuration that does not say ``blocking`` says false."""
    data = _as_dict(request)
    params = {"message": _message(data.get("message")), "metadata": parse.whole(data.get("metadata"))}
    configuration = data.get("configuration")
    if configuration is None:
        return params
    push = configuration.pop("pushNotification", None)
    config = {"blocking": False, **configuration, "pushNotificationConfig": _push_config(push)}
    return {**params, "configuration": config}


def task(request: pb2.CancelTaskRequest | pb2.TaskSubscriptionRequest) -> Params:
    return {"id": _named(_TASK, request.name, "name")[0]}


def get(request: pb2.GetTaskRequest) -> Params:
    return {**task(request), "historyLength": request.history_length}


def push_set(request: pb2.CreateTaskPushNotificationConfigRequest) -> Params:
    """The id may stand beside the config."""
    config = _push_config(_as_dict(request).get("config", {}).get("pushNotificationConfig"))
    if config is not None and request.config_id:
        config.setdefault("id", request.config_id)
    return {"taskId": _named(_TASK, request.parent, "parent")[0], "pushNotificationConfig": config}


def push_one(request: pb2.GetTaskPushNotificationConfigRequest | pb2.DeleteTaskPushNotificationConfigRequest) -> Params:
    task_id, config_id = _named(_CONFIG, request.name, "name")
    return {"id": task_id, "pushNotificationConfigId": config_id}


def push_list(request: pb2.ListTaskPushNotificationConfigRequest) -> Params:
    return {"id": _named(_TASK, request.parent, "parent")[0]}


def nothing(request: pb2.GetAgentCardRequest) -> Params:
    return {}


def _as_dict(request: Proto) -> dict[str, Any]:
    try:
        data: dict[str, Any] = MessageToDict(request)
    except (Error, ValueError) as error:
        raise invalid("request", str(error)[:300]) from None
    parse.check_depth(data)
    return data


def _message(data: dict[str, Any] | None) -> Params | None:
    if data is None:
        return None
    parts = [_part(part, index) for index, part in enumerate(data.pop("content", []))]
    role = data.pop("role", None)
    return {**data, "role": _ROLES.get(role), "parts": parts, "metadata": parse.whole(data.get("metadata"))}


def _part(data: dict[str, Any], index: int) -> Params:
    if "file" in data:
        return {**data, "kind": "file", "file": _file(data["file"])}
    if "data" in data:
        return {**data, "kind": "data", "data": data["data"].get("data", {})}
    if "text" in data:
        return {**data, "kind": "text"}
    raise invalid(f"message.parts[{index}]", "must hold one of text, file, data")


def _file(data: dict[str, Any]) -> Params:
    if "fileWithBytes" not in data:
        return {**data, "uri": data.get("fileWithUri")}
    content = b64decode(data["fileWithBytes"])
    text = content.decode("ascii", "replace")
    return {**data, "bytes": text if parse.is_base64(text) else b64encode(content).decode()}


def _push_config(data: dict[str, Any] | None) -> dict[str, Any] | None:
    if data is not None and "authentication" in data:
        data["authentication"].setdefault("schemes", [])
    return data


def _named(pattern: re.Pattern[str], name: str, field: str) -> tuple[str, ...]:
    match = pattern.fullmatch(name)
    if match is None:
        raise invalid(field, f"must be of the form {pattern.pattern.replace('([^/]+)', '*')}")
    return match.groups()


def _first(data: Any, *names: str) -> Any:
    """The first of these fields that an object has."""
    return next((data[name] for name in names if name in data), None) if isinstance(data, Mapping) else None


# Answers -------------------------------------------------------------------------------------------------------------


def _push_configs(configs: list[Any]) -> pb2.ListTaskPushNotificationConfigResponse:
    made = [ToProto.task_push_notification_config(config) for config in configs]
    return pb2.ListTaskPushNotificationConfigResponse(configs=made)


def event(item: Item) -> pb2.StreamResponse:
    return ToProto.stream_response(results.event(item))


#: What each method answers, by its name in JSON-RPC.
ANSWERS: dict[str, Callable[[Any], Proto]] = {
    "message/send": ToProto.task_or_message,
    "tasks/get": ToProto.task,
    "tasks/cancel": ToProto.task,
    "tasks/pushNotificationConfig/set": ToProto.task_push_notification_config,
    "tasks/pushNotificationConfig/get": ToProto.task_push_notification_config,
    "tasks/pushNotificationConfig/list": _push_configs,
    "tasks/pushNotificationConfig/delete": lambda _: Empty(),
    "agent/getAuthenticatedExtendedCard": ToProto.agent_card,
}
