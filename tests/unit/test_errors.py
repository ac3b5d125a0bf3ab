"""The codes of A2A's errors (A2A 1.0, section 5.4)."""

from __future__ import annotations

import pytest
from a2a.utils import errors as sdk

from tasks_app.a2a.errors import A2AError, http_error, jsonrpc_error

#: As the specification's table has them: the error, JSON-RPC's code, gRPC's status, HTTP's, and the reason (11.6).
TABLE: list[tuple[type[A2AError], int, str, int, str]] = [
    (sdk.TaskNotFoundError, -32001, "NOT_FOUND", 404, "TASK_NOT_FOUND"),
    (sdk.TaskNotCancelableError, -32002, "FAILED_PRECONDITION", 400, "TASK_NOT_CANCELABLE"),
    (sdk.PushNotificationNotSupportedError, -32003, "FAILED_PRECONDITION", 400, "PUSH_NOTIFICATION_NOT_SUPPORTED"),
    (sdk.UnsupportedOperationError, -32004, "FAILED_PRECONDITION", 400, "UNSUPPORTED_OPERATION"),
    (sdk.ContentTypeNotSupportedError, -32005, "INVALID_ARGUMENT", 400, "CONTENT_TYPE_NOT_SUPPORTED"),
    (sdk.InvalidAgentResponseError, -32006, "INTERNAL", 500, "INVALID_AGENT_RESPONSE"),
    (
        sdk.ExtendedAgentCardNotConfiguredError,
        -32007,
        "FAILED_PRECONDITION",
        400,
        "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
    ),
    (sdk.ExtensionSupportRequiredError, -32008, "FAILED_PRECONDITION", 400, "EXTENSION_SUPPORT_REQUIRED"),
    (sdk.VersionNotSupportedError, -32009, "FAILED_PRECONDITION", 400, "VERSION_NOT_SUPPORTED"),
]


@pytest.mark.parametrize(("kind", "code", "grpc", "http", "reason"), TABLE, ids=lambda value: str(value))
def test_every_error_of_a2a_has_the_codes_of_its_table(
    kind: type[A2AError], code: int, grpc: str, http: int, reason: str
) -> None:
    told, body = jsonrpc_error(kind("why")), http_error(kind("why"))["error"]
    assert (told["code"], body["status"], body["code"]) == (code, grpc, http)
    assert (told["message"], body["message"]) == ("why", "why")
    for detail in (told["data"][0], body["details"][0]):
        assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert (detail["reason"], detail["domain"]) == (reason, "a2a-protocol.org")
