"""0.3's JSON-RPC binding (A2A 0.3, section 7): the methods of 1.0's address for who says 0.3, or no version."""

from __future__ import annotations

from tasks_app.a2a.dialect import Dialect, streaming, unary
from tasks_app.a2a.v0_3 import methods, results

V0_3 = Dialect(
    unary={name: unary(method, results.as_json) for name, method in methods.UNARY.items()},
    streaming={
        name: streaming(method, lambda item: results.as_json(results.event(item)))
        for name, method in methods.STREAMING.items()
    },
)
