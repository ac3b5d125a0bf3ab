"""A version of the protocol as a binding speaks it: its methods, from JSON to JSON.

1.0's stands here; the older ones are in packages of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks_app import operations
from tasks_app.a2a import wire
from tasks_app.operations import Call, Item, Params


class Event(NamedTuple):
    """One event of a stream, as JSON; ``generation`` is its place."""

    generation: int
    data: Any


Unary = Callable[[Call, Params], Awaitable[Any]]
Streaming = Callable[[Call, Params], Awaitable[AsyncIterator[Event]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What answers once and what streams, by the binding's names for it."""

    unary: Mapping[str, Unary]
    streaming: Mapping[str, Streaming]

    def __contains__(self, method: str) -> bool:
        return method in self.unary or method in self.streaming


def unary(method: Callable[[Call, Params], Awaitable[Any]], as_json: Callable[[Any], Any]) -> Unary:
    """The method with its result as JSON."""

    async def answer(call: Call, params: Params) -> Any:
        return as_json(await method(call, params))

    return answer


def streaming(
    method: Callable[[Call, Params], Awaitable[AsyncIterator[Item]]], as_json: Callable[[Item], Any]
) -> Streaming:
    """The method with its events as JSON."""

    async def answer(call: Call, params: Params) -> AsyncIterator[Event]:
        return _events(await method(call, params), as_json)

    return answer


async def _events(items: AsyncIterator[Item], as_json: Callable[[Item], Any]) -> AsyncIterator[Event]:
    async for item in items:
        yield Event(item.generation, as_json(item))


V1_0 = Dialect(
    unary={name: unary(operation, wire.as_dict) for name, operation in operations.UNARY.items()},
    streaming={
        name: streaming(operation, lambda item: wire.as_dict(item.response))
        for name, operation in operations.STREAMING.items()
    },
)
