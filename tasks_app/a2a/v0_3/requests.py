"""Params of 0.3's JSON-RPC methods (A2A 0.3, section 7) → params of the operations. Pure.

Only what 0.3 says otherwise is looked at; the operations check the rest. A null is a field that was left out. Every
function raises InvalidParamsError naming the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks_app.a2a.errors import invalid
from tasks_app.operations import Params

#: What the SDK puts into a part's metadata where 1.0's data is no object, as 0.3's must be.
WRAPPED = "data_part_compat"


def send(params: Params) -> Params:
    """Of ``message/send`` and ``message/stream``."""
    return {
        "message": message(params.get("message"), path="message"),
        "configuration": configuration(params.get("configuration"), path="configuration"),
        "metadata": params.get("metadata"),
    }


def get(params: Params) -> Params:
    """Of ``tasks/get``."""
    return {"id": params.get("id"), **_history_length(params)}


def task(params: Params) -> Params:
    """Of ``tasks/cancel`` and ``tasks/resubscribe``."""
    return {"id": params.get("id"), "metadata": params.get("metadata")}


def push_set(params: Params) -> Params:
    """Of ``tasks/pushNotificationConfig/set``."""
    config = params.get("pushNotificationConfig")
    if config is None:
        raise invalid("pushNotificationConfig", "is required")
    return {**push_config(config, path="pushNotificationConfig"), "taskId": _required(params, "taskId")}


def push_one(params: Params) -> Params:
    """Of ``tasks/pushNotificationConfig/get`` and ``…/delete``."""
    return {"taskId": _required(params, "id"), "id": _required(params, "pushNotificationConfigId")}


def push_list(params: Params) -> Params:
    """Of ``tasks/pushNotificationConfig/list``, and of ``…/get`` of any."""
    return {"taskId": _required(params, "id")}


def nothing(params: Params) -> Params:
    """Of a method that asks for nothing in particular."""
    return {}


# What they hold ------------------------------------------------------------------------------------------------------


def message(data: Any, *, path: str) -> Any:
    """A message; what is none is left to the operation, which refuses it."""
    if not isinstance(data, Mapping):
        return data
    if data.get("kind", "message") != "message":
        raise invalid(f"{path}.kind", "must be 'message'")
    if data.get("role") not in ("user", None):
        raise invalid(f"{path}.role", "must be 'user'")
    parts = data.get("parts")
    if isinstance(parts, list):
        parts = [part(item, path=f"{path}.parts[{index}]") for index, item in enumerate(parts)]
    names = ("messageId", "contextId", "taskId", "referenceTaskIds", "extensions", "metadata")
    role = {} if data.get("role") is None else {"role": "ROLE_USER"}
    return {**_said(data, *names), **role, "parts": parts}


def part(data: Any, *, path: str) -> Any:
    """A part of any kind."""
    if not isinstance(data, Mapping):
        raise invalid(path, "must be an object")
    kind = _kind(data)
    if kind == "text":
        return {"text": data.get("text"), **_said(data, "metadata")}
    if kind == "file":
        return {**_file(data.get("file"), path=f"{path}.file"), **_said(data, "metadata")}
    if kind == "data":
        return _data(data, path=path)
    raise invalid(f"{path}.kind", "must be 'text', 'file' or 'data'")


def configuration(data: Any, *, path: str) -> Any:
    """How to answer a message. ``blocking`` is on unless it is said to be off."""
    if not isinstance(data, Mapping):
        return data
    made = {**_said(data, "acceptedOutputModes"), **_history_length(data)}
    blocking = data.get("blocking")
    if blocking is not None:
        if not isinstance(blocking, bool):
            raise invalid(f"{path}.blocking", "must be true or false")
        made["returnImmediately"] = not blocking
    config = data.get("pushNotificationConfig")
    if config is not None:
        made["taskPushNotificationConfig"] = push_config(config, path=f"{path}.pushNotificationConfig")
    return made


def push_config(data: Any, *, path: str) -> dict[str, Any]:
    """Where to send notifications. 1.0 has one scheme of authentication: the first that is named."""
    if not isinstance(data, Mapping):
        raise invalid(path, "must be an object")
    made = _said(data, "id", "url", "token")
    said = data.get("authentication")
    if said is None:
        return made
    if not isinstance(said, Mapping):
        raise invalid(f"{path}.authentication", "must be an object")
    schemes = said.get("schemes")
    if not isinstance(schemes, list) or not all(isinstance(scheme, str) for scheme in schemes):
        raise invalid(f"{path}.authentication.schemes", "must be a list of strings")
    return {**made, "authentication": {"scheme": schemes[0], **_said(said, "credentials")}} if schemes else made


def _kind(data: Params) -> Any:
    """What a part says that it is, ``type`` in 0.1; where it says nothing, what it holds, as 0.3's SDK takes it."""
    said = data.get("kind", data.get("type"))
    held = [kind for kind in ("text", "file", "data") if data.get(kind) is not None]
    return held[0] if said is None and len(held) == 1 else said


def _file(data: Any, *, path: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise invalid(path, "must be an object")
    contents = [name for name in ("bytes", "uri") if data.get(name) is not None]
    if len(contents) != 1:
        raise invalid(path, "must hold exactly one of bytes, uri")
    content = data[contents[0]]
    made = {"raw" if contents[0] == "bytes" else "url": content}
    names = {"mediaType": data.get("mimeType"), "filename": data.get("name")}
    return {**made, **{name: value for name, value in names.items() if value is not None}}


def _data(data: Params, *, path: str) -> dict[str, Any]:
    content, metadata = data.get("data"), data.get("metadata")
    if not isinstance(content, Mapping):
        raise invalid(f"{path}.data", "must be an object")
    if isinstance(metadata, Mapping) and metadata.get(WRAPPED) is True and "value" in content:
        rest = {name: value for name, value in metadata.items() if name != WRAPPED}
        return {"data": content["value"], **({"metadata": rest} if rest else {})}
    return {"data": content, **_said(data, "metadata")}


def _history_length(data: Params) -> dict[str, Any]:
    """0 asks for all of it in 0.3, as saying nothing does."""
    length = data.get("historyLength")
    return {} if length is None or (type(length) is int and length == 0) else {"historyLength": length}


def _required(data: Params, name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(name, "is required and must be a string")
    return value


def _said(data: Params, *names: str) -> dict[str, Any]:
    """Those of these fields that are there."""
    return {name: data[name] for name in names if data.get(name) is not None}
