"""0.3's JSON-RPC binding (A2A 0.3, section 7): the methods of 1.0's address for who says 0.3, or no version."""

from __future__ import annotations

import orjson

from tasks_app.a2a.dialect import Dialect, Streaming, Unary
from tasks_app.a2a.v0_3 import methods, results
from tasks_app.operations import Item


def _event(item: Item) -> bytes:
    return orjson.dumps(results.as_json(results.event(item)))


V0_3 = Dialect(
    unary={name: Unary(*method, results.as_json) for name, method in methods.UNARY.items()},
    streaming={name: Streaming(*method, _event) for name, method in methods.STREAMING.items()},
)
