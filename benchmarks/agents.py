"""The agents the benchmarks run; found through ``A2A_AGENTS``."""

from __future__ import annotations

from typing import Any

from tasks_app.agents import agent


@agent("noop", lane="cpu", description="Does nothing and says so, in a process.")
def noop(ctx: Any) -> str:
    return "done"
