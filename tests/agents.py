"""Agents that behave badly; the tests' stack finds them through ``A2A_AGENTS``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from tasks_app.agents import AgentError, Snooze, agent


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
    if ctx.text.startswith("progress of"):
        ctx.progress(float(ctx.text.removeprefix("progress of")))
    return {"nonsense": object(), "nan": float("nan"), "progress": ctx.progress}[ctx.text]


@agent("flaky", lane="cpu", description="Fails in three ways, each after a checkpoint, and then completes.")
def flaky(ctx: Any) -> None:
    step = ctx.checkpoints.get("step", 0)
    ctx.checkpoint("step", step + 1)
    if step == 0:
        raise AgentError("busy", code="busy", retryable=True, delay_s=0.3)
    if step == 1:
        raise Snooze(0.3)
    if step == 2:
        raise OSError("a network that is not there")
    ctx.say(f"found step {step}")


@agent("flaky-io", lane="io", description="The same, on the event loop.")
async def flaky_io(ctx: Any) -> None:
    flaky(ctx)


@agent("swallows", lane="io", description="Swallows its cancellation, for as many seconds as the text says.")
async def swallows(ctx: Any) -> None:
    until = time.monotonic() + float(ctx.text)
    while time.monotonic() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


@agent("exits-io", lane="io", description="Asks the process of the event loop to exit.")
async def exits_io(ctx: Any) -> None:
    raise SystemExit(3)


@agent("unstorable", lane="cpu", description="Makes an artifact that no database can keep.")
@agent("unstorable-io", lane="io", description="Makes an artifact that no database can keep.")
def unstorable(ctx: Any) -> str:
    ctx.artifact("text", name="a", filename="\udc80")
    time.sleep(0.3)  # so that the record is written, and refused, before the handler ends
    return "done"


ONCE: dict[str, Any] = {"max_attempts": 1, "description": "Its first attempt goes on for a minute, and spends none."}


@agent("willing-once", lane="cpu", **ONCE)
def willing_once(ctx: Any) -> None:
    for _ in range(600 if ctx.attempt == 1 else 0):
        ctx.check()
        time.sleep(0.1)


@agent("willing-once-io", lane="io", **ONCE)
async def willing_once_io(ctx: Any) -> None:
    await asyncio.sleep(60 if ctx.attempt == 1 else 0)


@agent("stubborn-once", lane="cpu", **ONCE)
@agent("blocks-once-io", lane="io", **ONCE)
def stubborn_once(ctx: Any) -> None:
    if ctx.attempt == 1:
        stubborn(ctx)


@agent("stubborn-once-io", lane="io", **ONCE)
async def stubborn_once_io(ctx: Any) -> None:
    until = time.monotonic() + (60 if ctx.attempt == 1 else 0)
    while time.monotonic() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(until - time.monotonic())


@agent("waits-for-file-cpu", lane="cpu", description="Works until there is a file of the name that its text gives.")
@agent("waits-for-file-io", lane="io", description="As it, in the io lane.")
def waits_for_file(ctx: Any) -> str:
    while not Path(ctx.text).exists():
        time.sleep(0.02)
    return "there it is"
