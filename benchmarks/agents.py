"""The agents the benchmarks run; found through ``A2A_AGENTS``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tasks_app.agents import agent

DEFAULT_SECONDS = 0.05


@agent("noop", lane="cpu", description="Does nothing and says so, in a process.")
def noop(ctx: Any) -> str:
    return "done"


@agent("noop-io", lane="io", description="Does nothing and says so, on the event loop.")
async def noop_io(ctx: Any) -> str:
    return "done"


@agent("busy", lane="cpu", description="Holds a process for `seconds`.", timeout_s=60.0)
def busy(ctx: Any) -> str:
    time.sleep(float(ctx.parameters.get("seconds", DEFAULT_SECONDS)))
    return "done"


@agent("pause", lane="io", description="Waits for `seconds` on the event loop.", timeout_s=60.0)
async def pause(ctx: Any) -> str:
    await asyncio.sleep(float(ctx.parameters.get("seconds", DEFAULT_SECONDS)))
    return "done"
