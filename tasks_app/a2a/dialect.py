"""A version of the protocol as a binding speaks it: its methods, from JSON to JSON. 1.0's stand here.

A method names its operation, by which scopes are checked, and which a task keeps as what made it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks_app import operations
from tasks_app.a2a import wire
from tasks_app.operations import Call, Item, Items, Params


class Unary(NamedTuple):
    """A method that answers once; ``result`` renders what ``do`` returns as JSON."""

    operation: str
    do: Callable[[Call, Params], Awaitable[Any]]
    result: Callable[[Any], Any]

    async def answer(self, call: Call, params: Params) -> Any:
        return self.result(await self.do(call, params))


class Streaming(NamedTuple):
    """A method that streams; ``event`` renders each item as JSON text."""

    operation: str
    do: Callable[[Call, Params], Awaitable[Items]]
    event: Callable[[Item], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The methods, by the binding's names for them."""

    unary: Mapping[str, Unary]
    streaming: Mapping[str, Streaming]

    def __contains__(self, method: str) -> bool:
        return method in self.unary or method in self.streaming

    def operation(self, method: str) -> str:
        return (self.unary.get(method) or self.streaming[method]).operation


def _event(item: Item) -> bytes:
    return wire.as_json(item.response)


V1_0 = Dialect(
    unary={name: Unary(name, do, wire.as_dict) for name, do in operations.UNARY.items()},
    streaming={name: Streaming(name, do, _event) for name, do in operations.STREAMING.items()},
)
