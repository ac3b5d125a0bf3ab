"""A2A's errors, from the SDK, and how they are raised here: with the wrong field (A2A 1.0, sections 5.4, 9.5)."""

from __future__ import annotations

import math
from typing import Any

from a2a.utils.error_handlers import A2A_DOMAIN, BAD_REQUEST_TYPE, ERROR_INFO_TYPE
from a2a.utils.errors import (
    A2A_ERROR_MAPPING,
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    ContentTypeNotSupportedError,
    ErrorMapping,
    ExtensionSupportRequiredError,
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
    "ExtensionSupportRequiredError",
    "InternalError",
    "InvalidParamsError",
    "InvalidRequestError",
    "JSONParseError",
    "MethodNotFoundError",
    "PushNotificationNotSupportedError",
    "ResourceExhaustedError",
    "TaskNotCancelableError",
    "TaskNotFoundError",
    "UnsupportedOperationError",
    "VersionNotSupportedError",
    "details",
    "failed",
    "http_error",
    "invalid",
    "jsonrpc_error",
    "mapped",
    "violations",
]


#: JSON-RPC leaves -32000 to -32099 to servers; A2A 1.0 and its SDK use -32001 to -32009. This one is ours (HTTP's 429).
RESOURCE_EXHAUSTED = -32029
RETRY_INFO_TYPE = "type.googleapis.com/google.rpc.RetryInfo"
#: Who gives the reason of an error of ours (google.rpc.ErrorInfo).
DOMAIN = "a2a-task-manager"

#: Of a field's path and of what is wrong with it. The two go three times, in Base64 or percent-encoded.
FIELD_MAX_BYTES, TEXT_MAX_BYTES = 200, 600


class ResourceExhaustedError(A2AError):
    """The client has reached one of its limits; nothing was accepted. A2A has no error for it: this one is ours."""

    def __init__(self, limit: str, message: str, *, retry_after_s: float) -> None:
        """``limit`` is its name; ``retry_after_s`` how long until another try may succeed, told in whole seconds."""
        super().__init__(f"{limit}: {message}", data={"errors": [{"field": limit, "message": message}]})
        self.limit = limit
        self.retry_after_s = max(1, math.ceil(retry_after_s))

    @property
    def headers(self) -> dict[str, str]:
        """What goes with HTTP's 429 (RFC 9110, section 10.2.3)."""
        return {"Retry-After": str(self.retry_after_s)}


def invalid(field: str, message: str) -> InvalidParamsError:
    """An InvalidParamsError about one field; its text names the field, so that it helps where only text is shown.

    What it repeats of the request is cut: over gRPC all of it is metadata, of which clients take 8 KiB.
    """
    field, message = _cut(field, FIELD_MAX_BYTES), _cut(message, TEXT_MAX_BYTES)
    return InvalidParamsError(f"{field}: {message}", data={"errors": [{"field": field, "message": message}]})


def _cut(text: str, most_bytes: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= most_bytes else encoded[:most_bytes].decode(errors="ignore") + "…"


def unsupported_content(field: str, message: str) -> ContentTypeNotSupportedError:
    return ContentTypeNotSupportedError(f"{field}: {message}", data={"field": field})


def violations(error: A2AError) -> list[dict[str, str]]:
    """The fields an error is about, each with its message; empty if it is about none."""
    data = error.data if isinstance(error.data, dict) else {}
    if "field" in data:
        return [{"field": data["field"], "message": error.message}]
    return list(data.get("errors", []))


def failed() -> InternalError:
    """What a client hears when the fault is ours."""
    return InternalError("the server could not answer; look the task up before sending it again")


def jsonrpc_error(error: A2AError) -> dict[str, Any]:
    """The JSON-RPC error object (section 9.5)."""
    exhausted = isinstance(error, ResourceExhaustedError)
    code = RESOURCE_EXHAUSTED if exhausted else JSON_RPC_ERROR_CODE_MAP.get(type(error), -32603)
    return {"code": code, "message": error.message, "data": details(error)}


def http_error(error: A2AError, *, status: int | None = None) -> dict[str, Any]:
    """The body of the HTTP+JSON binding (section 11.6); its ``error.code`` is the HTTP status.

    ``status`` takes the place of the error's own.
    """
    mapping = mapped(error)
    code = mapping.http_code if status is None else status
    body = {"code": code, "status": mapping.grpc_status, "message": error.message, "details": details(error)}
    return {"error": body}


def mapped(error: A2AError) -> ErrorMapping:
    """Its HTTP status, its gRPC status and its reason (section 5.4)."""
    if isinstance(error, ResourceExhaustedError):
        return ErrorMapping(429, "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED")
    return A2A_ERROR_MAPPING.get(type(error), A2A_ERROR_MAPPING[InternalError])


def details(error: A2AError) -> list[dict[str, Any]]:
    """google.rpc's details, as JSON: an ErrorInfo always, and a BadRequest with the fields if it is about some."""
    exhausted = isinstance(error, ResourceExhaustedError)
    metadata = {"limit": error.limit} if isinstance(error, ResourceExhaustedError) else {}
    domain = DOMAIN if exhausted else A2A_DOMAIN
    found = [{"@type": ERROR_INFO_TYPE, "reason": mapped(error).reason, "domain": domain, "metadata": metadata}]
    if isinstance(error, ResourceExhaustedError):
        return [*found, {"@type": RETRY_INFO_TYPE, "retryDelay": f"{error.retry_after_s}s"}]
    fields = [{"field": item["field"], "description": item["message"]} for item in violations(error)]
    return [*found, {"@type": BAD_REQUEST_TYPE, "fieldViolations": fields}] if fields else found
