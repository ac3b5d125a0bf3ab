"""The agents of the fault tests' load: they do a little of everything, and keep the ledger."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from typing import Any

from tasks_app.agents import AgentError, Snooze, agent
from tests.faults.ledger import Page, page

#: Losing attempts is what these tests do to them; none of them may end because of it.
OPTIONS: dict[str, Any] = {"max_attempts": 100, "timeout_s": 300.0}
BURN_BYTES = 1_000_000
#: How many runs of an agent are let through at once.
LIMITS = {"ledger-limited": 3}


@agent("ledger-io", lane="io", description="Waits on the event loop, and keeps the ledger.", **OPTIONS)
async def ledger_io(ctx: Any) -> dict[str, Any]:
    return await _wait(ctx)


@agent(
    "ledger-limited", lane="io", description="The same, few at once.", max_running=LIMITS["ledger-limited"], **OPTIONS
)
async def ledger_limited(ctx: Any) -> dict[str, Any]:
    return await _wait(ctx)


@agent("ledger-cpu", lane="cpu", description="Computes a little, waits, and keeps the ledger.", **OPTIONS)
def ledger_cpu(ctx: Any) -> dict[str, Any]:
    with page(ctx) as entry:
        for pause_s, fraction in _pauses(ctx.parameters):
            hashlib.sha256(bytes(BURN_BYTES)).digest()
            time.sleep(pause_s)
            ctx.progress(fraction, "computing")
        return _end(ctx, entry)


@agent("ledger-late", lane="cpu", description="Is silent for its seconds, then has its effect.", **OPTIONS)
def ledger_late(ctx: Any) -> None:
    """Looks at nothing before it writes: what a stopped process does that wakes up late."""
    with page(ctx) as entry:
        time.sleep(_silence_s(ctx))
        entry.effect()
        ctx.artifact({"run": entry.run}, name="effect")


@agent("ledger-late-io", lane="io", description="The same on the event loop.", **OPTIONS)
async def ledger_late_io(ctx: Any) -> None:
    with page(ctx) as entry:
        await asyncio.sleep(_silence_s(ctx))
        entry.effect()
        ctx.artifact({"run": entry.run}, name="effect")


def _silence_s(ctx: Any) -> float:
    """``seconds`` in the first run, ``again_s`` in every other."""
    return float(ctx.parameters["seconds"] if ctx.attempt == 1 else ctx.parameters["again_s"])


async def _wait(ctx: Any) -> dict[str, Any]:
    with page(ctx) as entry:
        for pause_s, fraction in _pauses(ctx.parameters):
            await asyncio.sleep(pause_s)
            ctx.progress(fraction, "waiting")
        return _end(ctx, entry)


def _pauses(parameters: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """(pause in seconds, fraction done after it) for each step."""
    steps = int(parameters["steps"])
    for step in range(1, steps + 1):
        yield parameters["seconds"] / steps, step / steps


def _end(ctx: Any, entry: Page) -> dict[str, Any]:
    """The effect, with the artifact that says whose it is; before it, what is to go wrong."""
    how = ctx.parameters.get("at_first")
    if how == "retries" and ctx.attempt == 1:
        raise AgentError("not yet", code="busy", retryable=True, delay_s=0.2)
    if how == "snoozes" and ctx.attempt == 1:
        raise Snooze(0.2)
    entry.effect()
    ctx.artifact({"run": entry.run}, name="effect")
    if how == "fails":
        raise AgentError("this one was meant to fail", code="meant")
    return {"attempt": ctx.attempt}
