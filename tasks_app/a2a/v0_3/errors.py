"""A2A's errors as 0.3 has them (A2A 0.3, section 8): its codes, its names of fields, ``data`` of any shape. Pure."""

from __future__ import annotations

import re
from typing import Any

from a2a.utils.errors import ExtendedAgentCardNotConfiguredError, ExtensionSupportRequiredError

from tasks_app.a2a import errors
from tasks_app.a2a.errors import A2AError, InvalidParamsError, ResourceExhaustedError, violations

#: 1.0's names of fields, and 0.3's in JSON-RPC.
JSONRPC = {
    r"(\.parts\[\d+\])\.raw\b": r"\1.file.bytes",
    r"(\.parts\[\d+\])\.url\b": r"\1.file.uri",
    r"(\.parts\[\d+\])\.mediaType\b": r"\1.file.mimeType",
    r"(\.parts\[\d+\])\.filename\b": r"\1.file.name",
    r"\bconfiguration\.returnImmediately\b": "configuration.blocking",
    r"\bconfiguration\.taskPushNotificationConfig\b": "configuration.pushNotificationConfig",
    r"\bauthentication\.scheme\b": "authentication.schemes[0]",
}
#: JSON-RPC's names of 0.3, and those of its protobuf.
PROTOJSON = {
    r"(\.parts\[\d+\])\.file\.bytes\b": r"\1.file.fileWithBytes",
    r"(\.parts\[\d+\])\.file\.uri\b": r"\1.file.fileWithUri",
    r"\bmessage\.parts\b": "message.content",
    r"\bconfiguration\.pushNotificationConfig\b": "configuration.pushNotification",
}
#: 0.3's name of an error where 1.0 has another.
_NAMES: dict[type[A2AError], str] = {ExtendedAgentCardNotConfiguredError: "AuthenticatedExtendedCardNotConfiguredError"}
_INVALID_REQUEST = -32600


def jsonrpc_error(error: A2AError) -> dict[str, Any]:
    """The JSON-RPC error object."""
    made = {"code": code(error), "message": named(error.message, JSONRPC)}
    data = _data(error, JSONRPC)
    return {**made, "data": data} if data else made


def http_error(error: A2AError) -> dict[str, Any]:
    """The body of the HTTP+JSON binding: 0.3's SDK in JavaScript tells the error by its code, others by its type."""
    made = {"code": code(error), "type": name(error), "message": named(error.message, JSONRPC, PROTOJSON)}
    data = _data(error, JSONRPC, PROTOJSON)
    return {**made, "data": data} if data else made


def grpc_text(error: A2AError) -> str:
    """The details of a gRPC status: 0.3's clients tell the error by the name before the colon."""
    return f"{name(error)}: {named(error.message, JSONRPC, PROTOJSON)}"


def code(error: A2AError) -> int:
    """JSON-RPC's. 0.3 knows no error for an extension that is missing: the request is invalid."""
    if isinstance(error, ExtensionSupportRequiredError):
        return _INVALID_REQUEST
    return int(errors.jsonrpc_error(error)["code"])


def name(error: A2AError) -> str:
    return _NAMES.get(type(error), type(error).__name__)


def about_a_part(error: InvalidParamsError, path: str) -> InvalidParamsError:
    """The error with its field below this path, where 0.3 has an object and 1.0 its fields."""
    fields = violations(error)
    if len(fields) != 1 or fields[0]["field"].startswith((path, "taskId")):
        return error
    return errors.invalid(f"{path}.{fields[0]['field']}", fields[0]["message"])


def named(text: str, *tables: dict[str, str]) -> str:
    """A text or a field's path with the names that these tables give."""
    for table in tables:
        for pattern, name in table.items():
            text = re.sub(pattern, name, text)
    return text


def _data(error: A2AError, *tables: dict[str, str]) -> dict[str, Any]:
    """The fields that it is about, each with its message; nothing if it is about none."""
    fields = [{part: named(text, *tables) for part, text in item.items()} for item in violations(error)]
    made: dict[str, Any] = {"errors": fields} if fields else {}
    if isinstance(error, ResourceExhaustedError):
        made["retry_after_s"] = error.retry_after_s
    return made
