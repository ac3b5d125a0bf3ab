"""What must hold of every answer, whatever was asked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import grpc
import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2  # noqa: F401 (registers the details)
from google.rpc.status_pb2 import Status

from tasks_app.models import Task
from tests.protocol.bindings import SERVICE
from tests.protocol.fuzzing.doors import Answer, Asker, counted
from tests.protocol.fuzzing.requests import JSON, Http, Request, filled, http, jsonrpc, rest, rpc

#: What only Python says, or PostgreSQL: no client should read it.
LEAKS = re.compile(
    r"Traceback|\.py\b|<class|object at 0x|object is not|object has no|NoneType|'(str|int|dict|list|bool|float)'"
    r"|bytes-like|unhashable|psycopg|google\.protobuf|_pb2|codec can't"
    r"|\b(Type|Key|Value|Attribute|Overflow|Parse|Decode|Data|Database|Runtime)Error\b"
)
#: gRPC's own limit for all of an answer's metadata is 8 KiB, HTTP servers' and proxies' about the same.
TOLD_MAX_BYTES = 6_000
FAULTS = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
)


class Outcome(NamedTuple):
    """``reason`` and ``fields`` are the refusal's, empty where it was accepted; ``result`` is what was answered."""

    reason: str
    fields: frozenset[str]
    result: Any

    @property
    def accepted(self) -> bool:
        return not self.reason


def outcome(request: Request, answer: Answer) -> Outcome:
    """What was answered. Fails if that is not well-formed, blames the server, or tells of its insides."""
    if not isinstance(request, Http):
        return _of_grpc(request.method, answer)
    assert answer.status < 500, answer
    path = request.path.partition("?")[0]
    if answer.headers.get("content-type", "").startswith("text/") and answer.status >= 400:
        assert answer.status in (400, 404, 405), answer  # of a host that is none of ours, or no page
        return Outcome(str(answer.status), frozenset(), None)
    if request.verb == "POST" and re.fullmatch(r"/(a2a/[^/]+/?)?", path) and answer.status in (200, 413, 429):
        return _of_jsonrpc(request, answer)
    data: Any = answer.data if answer.body else None
    if answer.status < 400:
        return Outcome("", frozenset(), data)
    if isinstance(data, dict) and isinstance(data.get("error"), dict):
        return _of_rest(answer.status, data["error"])
    if isinstance(data, dict) and set(data) <= {"code", "type", "message", "data"}:  # 0.3's
        _check_text(data["message"])
        return Outcome(data.get("type", str(answer.status)), _fields_of_0_3(data), None)
    # What is no address of an operation.
    if answer.headers.get("content-type", "").startswith("application/json"):
        assert answer.status in (400, 401, 403, 404, 405), answer
        _check_text(data["detail"])
    else:
        assert answer.status in (400, 404, 405), answer
    return Outcome(str(answer.status), frozenset(), None)


def _of_jsonrpc(request: Http, answer: Answer) -> Outcome:
    data: Any = answer.data
    assert data["jsonrpc"] == "2.0"
    assert set(data) == {"jsonrpc", "id", "error" if "error" in data else "result"}, data
    assert data["id"] == _id(request), data
    if "error" not in data:
        return Outcome("", frozenset(), data["result"])
    error = data["error"]
    assert error["code"] != -32603, data
    assert isinstance(error["code"], int)
    _check_text(error["message"])
    if isinstance(error.get("data"), dict) or "data" not in error:  # 0.3's
        return Outcome(str(error["code"]), _fields_of_0_3(error), None)
    return Outcome(_reason(error["data"]), _fields(error["data"]), None)


def _id(request: Http) -> Any:
    try:
        call_id = orjson.loads(request.body.encode("latin-1"))["id"]
    except (ValueError, TypeError, KeyError):
        return None
    return call_id if isinstance(call_id, str | int | None) and not isinstance(call_id, bool) else None


def _of_rest(status: int, error: dict[str, Any]) -> Outcome:
    assert error["code"] == status
    assert error["status"] in grpc.StatusCode.__members__
    _check_text(error["message"])
    if status in (401, 403):
        return Outcome(error["status"], frozenset(), None)
    return Outcome(_reason(error["details"]), _fields(error["details"]), None)


def _of_grpc(method: str, answer: Answer) -> Outcome:
    if answer.status is grpc.StatusCode.OK:
        return Outcome("", frozenset(), answer.body)
    assert answer.status not in FAULTS, answer
    _check_text(answer.text)
    if answer.status is grpc.StatusCode.UNIMPLEMENTED or "details-bin" not in "".join(answer.headers):
        assert not method.startswith("/lf.a2a.v1.") or answer.status is grpc.StatusCode.UNIMPLEMENTED, answer
        return Outcome(answer.text.partition(":")[0] or answer.status.name, frozenset(), None)
    status = Status.FromString(answer.headers["grpc-status-details-bin"])
    assert status.code == answer.status.value[0]
    assert status.message == answer.text
    details = [MessageToDict(detail) for detail in status.details]
    return Outcome(_reason(details), _fields(details), None)


def _reason(details: list[dict[str, Any]]) -> str:
    assert len(json.dumps(details)) < TOLD_MAX_BYTES, details
    info = next(detail for detail in details if detail["@type"].endswith("google.rpc.ErrorInfo"))
    assert info["domain"]
    reason = str(info["reason"])
    assert re.fullmatch(r"[A-Z_]+", reason)
    return reason


def _fields(details: list[dict[str, Any]]) -> frozenset[str]:
    violations = [item for detail in details for item in detail.get("fieldViolations", [])]
    for item in violations:
        _check_text(item["description"])
    return frozenset(item["field"] for item in violations)


def _fields_of_0_3(error: dict[str, Any]) -> frozenset[str]:
    return frozenset(item["field"] for item in error.get("data", {}).get("errors", []))


def _check_text(text: str) -> None:
    assert text
    assert len(text.encode()) < TOLD_MAX_BYTES, text
    leak = LEAKS.search(text)
    assert leak is None, (leak, text)


def holds(asker: Asker, request: Request, ids: Mapping[str, str] | None = None) -> Outcome:
    """What the request was answered, if all holds of it: what is refused leaves nothing, what is accepted can be read.

    And a request that has nothing wrong is answered after it.
    """
    ids = ids or asker.ids()
    before, known = counted(), _task_ids()
    found = outcome(request, asker.ask(filled(request, ids)))
    made = _task_ids() - known
    if not found.accepted:
        assert counted() == before, (found, "left rows")
    for task_id in made:
        _can_be_read(asker, task_id)
    asker.task()
    return found


def _task_ids() -> set[str]:
    return {str(task_id) for task_id in Task.objects.values_list("id", flat=True)}


def _can_be_read(asker: Asker, task_id: str) -> None:
    """Through every binding, of every version, and by REST."""
    agent = Task.objects.get(id=task_id).agent
    older = {**JSON, "a2a-version": "0.3"}
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": task_id}}).decode()
    reads: list[Request] = [
        jsonrpc("GetTask", {"id": task_id}, agent=agent),
        rest("GetTask", {"id": task_id}, agent=agent),
        rpc("GetTask", {"id": task_id}, agent=agent),
        jsonrpc("ListTasks", {"historyLength": 9}, agent=agent),
        rest("SubscribeToTask", {"id": task_id}, agent=agent),
        Http("POST", f"/a2a/{agent}/", body, older),
        Http("GET", f"/a2a/{agent}/v1/tasks/{task_id}", "", older),
        http("GET", f"/api/v1/tasks/{task_id}/"),
        http("GET", "/api/v1/tasks/"),
    ]
    for read in reads:
        found = outcome(read, asker.ask(read))
        assert found.accepted or "ended" in str(found), (read, found)
        if isinstance(read, Http):
            assert task_id in orjson.dumps(found.result).decode(), read
        else:
            assert (
                GetMessageClass(SERVICE.methods_by_name["GetTask"].output_type).FromString(found.result).id == task_id
            )
