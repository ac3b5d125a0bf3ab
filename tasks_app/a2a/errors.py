"""A2A's errors, from the SDK, and how they are raised here: with the wrong field (A2A 1.0, sections 5.4, 9.5)."""

from __future__ import annotations

from typing import Any

from a2a.utils.error_handlers import build_error_details
from a2a.utils.errors import (
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
    VersionNotSupportedError,
)

__all__ = [
    "A2AError",
    "ContentTypeNotSupportedError",
    "InternalError",
    "InvalidParamsError",
    "InvalidRequestError",
    "JSONParseError",
    "MethodNotFoundError",
    "PushNotificationNotSupportedError",
    "TaskNotCancelableError",
    "TaskNotFoundError",
    "UnsupportedOperationError",
    "VersionNotSupportedError",
    "invalid",
    "jsonrpc_error",
    "violations",
]


def invalid(field: str, message: str) -> InvalidParamsError:
    """An InvalidParamsError about one field; its text names the field, so that it helps where only text is shown."""
    return InvalidParamsError(f"{field}: {message}", data={"errors": [{"field": field, "message": message}]})


def unsupported_content(field: str, message: str) -> ContentTypeNotSupportedError:
    return ContentTypeNotSupportedError(f"{field}: {message}", data={"field": field})


def violations(error: A2AError) -> list[dict[str, str]]:
    """The fields an error is about, each with its message; empty if it is about none."""
    data = error.data if isinstance(error.data, dict) else {}
    if "field" in data:
        return [{"field": data["field"], "message": error.message}]
    return list(data.get("errors", []))


def jsonrpc_error(error: A2AError) -> dict[str, Any]:
    """The JSON-RPC error object."""
    code = JSON_RPC_ERROR_CODE_MAP.get(type(error), -32603)
    return {"code": code, "message": error.message, "data": build_error_details(error)}
