"""What is asked: an operation, over every binding that can say it, or one request of one door. As JSON in the corpus.

Where a text says ``$task`` it is the id of a task that waits, ``$ended`` that of one that was cancelled, and ``$new``
an id that nobody has used.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message_factory import GetMessageClass

from tests.protocol.bindings import PATHS, SERVICE

JSON = {"content-type": "application/json", "a2a-version": "1.0"}


@dataclass(frozen=True, slots=True)
class Http:
    """One HTTP request. ``path`` is percent-encoded, with its query; ``body`` is one byte a character (Latin-1)."""

    verb: str
    path: str
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: dict(JSON))


@dataclass(frozen=True, slots=True)
class Rpc:
    """One gRPC call: ``method`` is the whole path, ``body`` base64 of the request."""

    method: str
    body: str
    streams: bool = False
    headers: Mapping[str, str] = field(default_factory=lambda: {"a2a-version": "1.0"})

    @property
    def data(self) -> bytes:
        return base64.b64decode(self.body)


Request = Http | Rpc


def http(verb: str, path: str, body: bytes = b"", **headers: str) -> Http:
    """``headers`` go beside the usual ones, with ``_`` for ``-``."""
    return Http(
        verb, path, body.decode("latin-1"), {**JSON, **{name.replace("_", "-"): headers[name] for name in headers}}
    )


def jsonrpc(method: str, params: Any, *, agent: str = "echo") -> Http:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return http("POST", f"/a2a/{agent}/", json.dumps(body).encode())


def rest(method: str, params: Mapping[str, Any], *, agent: str = "echo") -> Http:
    """The ids are in the path; the rest is the body, or the query."""
    verb, path = PATHS[method]
    held = {name: value for name, value in params.items() if "{" + name + "}" not in path}
    ids = {name: quote(str(params.get(name, "")), safe="$") for name in ("id", "taskId")}
    path = f"/a2a/{agent}/{path.format(**ids)}"
    if verb == "POST":
        return http(verb, path, json.dumps(held).encode())
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in held.items()}
    return http(verb, f"{path}?{urlencode(query)}" if query else path)


def rpc(method: str, params: Mapping[str, Any], *, agent: str = "echo") -> Rpc:
    """Raises ValueError, TypeError or ParseError for what no protobuf can say."""
    declared = SERVICE.methods_by_name[method]
    request = ParseDict({"tenant": agent, **params}, GetMessageClass(declared.input_type)())
    body = base64.b64encode(request.SerializeToString()).decode()
    return Rpc(f"/{SERVICE.full_name}/{method}", body, declared.server_streaming)


def filled(request: Request, ids: Mapping[str, str]) -> Request:
    """The request with these ids in the place of their names."""

    def fill(text: str) -> str:
        for name, value in ids.items():
            text = text.replace(name, value)
        return text

    if isinstance(request, Rpc):
        return request
    return Http(request.verb, fill(request.path), fill(request.body), request.headers)


def put(data: Any, ids: Mapping[str, str]) -> Any:
    """The JSON with these ids in the place of their names."""
    if isinstance(data, dict):
        return {name: put(value, ids) for name, value in data.items()}
    if isinstance(data, list):
        return [put(item, ids) for item in data]
    return ids.get(data, data) if isinstance(data, str) else data


def as_json(request: Request) -> dict[str, Any]:
    """As the corpus keeps it."""
    return {"http" if isinstance(request, Http) else "grpc": asdict(request)}


def from_json(case: Mapping[str, Any], ids: Mapping[str, str]) -> list[Request]:
    """The requests of a case of the corpus: one, or those of an operation over every binding that can say it."""
    params = put(case.get("params"), ids)
    if "http" in case:
        return [Http(**case["http"])]
    if "grpc" in case:
        return [Rpc(**case["grpc"])]
    made: list[Request] = []
    for binding in (jsonrpc, rest, rpc):
        try:
            made.append(binding(case["method"], params))
        except (ParseError, ValueError, TypeError):
            continue  # protobuf has no words for it
    return made
