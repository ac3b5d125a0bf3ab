"""Agents that behave badly; the tests' stack finds them through ``A2A_AGENTS``."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from tasks_app.agents import agent


@agent("stubborn", lane="cpu", description="Works for a minute, whatever it is told.")
def stubborn(ctx: Any) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(BaseException):
            time.sleep(until - time.monotonic())


@agent("raises", lane="cpu", description="Raises what the text names.")
def raises(ctx: Any) -> Any:
    known: dict[str, BaseException] = {
        "ValueError": ValueError("a value"),
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "MemoryError": MemoryError(),
    }
    if ctx.text in known:
        raise known[ctx.text]
    return {"nonsense": object(), "nan": float("nan"), "progress": ctx.progress}[ctx.text]


@agent("exits-io", lane="io", description="Asks the process of the event loop to exit.")
async def exits_io(ctx: Any) -> None:
    raise SystemExit(3)


@agent("unstorable", lane="cpu", description="Makes an artifact that no database can keep.")
@agent("unstorable-io", lane="io", description="Makes an artifact that no database can keep.")
def unstorable(ctx: Any) -> str:
    ctx.artifact("text", name="a", filename="\udc80")
    time.sleep(0.3)  # so that the record is written, and refused, before the handler ends
    return "done"
