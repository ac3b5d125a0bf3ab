"""0.3's bindings behind one face: what is asked and answered is what its JSON-RPC says (A2A 0.3, section 3.2).

To protobuf and back it is the SDK's conversion that goes, as in its own clients of 0.3.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from tests.protocol.bindings import Refused, sse_events
from tests.protocol.doors import Doors

STREAMING = ("message/stream", "tasks/resubscribe")


class Event(NamedTuple):
    """One event of a stream; the id is the generation where the binding has ids, else 0."""

    id: int
    data: dict[str, Any]


class Binding(Protocol):
    """What 0.3 is tested through. What is refused is a Refused, whose reason is the error's name where it has one."""

    name: str

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> Any: ...

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]: ...


class JsonRpc:
    """Without a word of the version, as clients of 0.3 ask."""

    name = "jsonrpc"

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def call(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> Any:
        answer = self._send(method, params, agent, headers).json()
        if "error" not in answer:
            return answer["result"]
        error = answer["error"]
        raise Refused(error["code"], error["message"], "", fields(error))

    def stream(self, method: str, params: dict[str, Any], *, agent: str = "echo", **headers: str) -> list[Event]:
        reply = self._send(method, params, agent, headers)
        if reply.headers["content-type"].startswith("application/json"):
            self.call(method, params, agent=agent, **headers)
        return [Event(event.id, event.data["result"]) for event in sse_events(reply.text)]

    def _send(self, method: str, params: dict[str, Any], agent: str, headers: dict[str, str]) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._doors.send("POST", f"/a2a/{agent}/", json=body, headers=named)


BINDINGS = {binding.name: binding for binding in (JsonRpc,)}


def fields(error: dict[str, Any]) -> set[str]:
    return {item["field"] for item in error.get("data", {}).get("errors", [])}
