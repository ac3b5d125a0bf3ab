"""Three agents that need nothing: ``echo``, ``sleep`` and ``sleep-cpu``. For tests, benchmarks and first steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tasks_app.agents import Skill, agent

if TYPE_CHECKING:
    from workers.context import Context

DEFAULT_SECONDS = 1.0
DEFAULT_STEPS = 10

_SLEEP_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "seconds": {"type": "number", "minimum": 0, "maximum": 3600, "default": DEFAULT_SECONDS},
        "steps": {"type": "integer", "minimum": 1, "maximum": 100, "default": DEFAULT_STEPS},
    },
    "additionalProperties": False,
}


@agent(
    "echo",
    lane="io",
    description="Answers with the text it was sent.",
    skills=(
        Skill(
            id="echo",
            name="Echo",
            description="Returns the text parts of the message, one per line.",
            tags=("test", "text"),
            examples=("Hello",),
        ),
    ),
    input_modes=("text/*", "application/json"),
    output_modes=("text/plain",),
    parameters_schema={"type": "object", "additionalProperties": False},
    timeout_s=30.0,
)
async def echo(ctx: Context) -> None:
    """Records one ``text/plain`` artifact: the message's text parts, joined by newlines (empty if it has none)."""
    text = "\n".join(part.text for part in ctx.message.parts if part.WhichOneof("content") == "text")
    ctx.artifact(text, name="echo", media_type="text/plain")


@agent(
    "sleep",
    lane="io",
    description="Sleeps for the given seconds without holding a thread, and reports progress.",
    skills=(Skill(id="sleep", name="Sleep", description="Waits `seconds`, in `steps` reports.", tags=("test",)),),
    output_modes=("text/plain",),
    parameters_schema=_SLEEP_PARAMETERS,
    timeout_s=3700.0,
)
async def sleep(ctx: Context) -> None:
    """Sleeps ``seconds`` (s) on the event loop; one progress report after each of ``steps`` equal pauses."""
    for pause_s, fraction in _pauses(ctx.parameters):
        await asyncio.sleep(pause_s)
        ctx.progress(fraction, "sleeping")
    _finish(ctx)


@agent(
    "sleep-cpu",
    lane="cpu",
    description="Sleeps for the given seconds in a worker process, and reports progress.",
    skills=(
        Skill(
            id="sleep-cpu",
            name="Sleep in a process",
            description="Holds one slot of the cpu lane for `seconds`, in `steps` reports.",
            tags=("test",),
        ),
    ),
    output_modes=("text/plain",),
    parameters_schema=_SLEEP_PARAMETERS,
    timeout_s=3700.0,
)
def sleep_cpu(ctx: Context) -> None:
    """As :func:`sleep`, blocking its process."""
    for pause_s, fraction in _pauses(ctx.parameters):
        time.sleep(pause_s)
        ctx.progress(fraction, "sleeping")
    _finish(ctx)


def _pauses(parameters: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """(pause in seconds, fraction done after it), ``steps`` times; the fractions end at exactly 1.0."""
    seconds = float(parameters.get("seconds", DEFAULT_SECONDS))
    steps = int(parameters.get("steps", DEFAULT_STEPS))
    for step in range(1, steps + 1):
        yield seconds / steps, step / steps


def _finish(ctx: Context) -> None:
    seconds = float(ctx.parameters.get("seconds", DEFAULT_SECONDS))
    ctx.artifact(f"slept {seconds:g} s", name="result", media_type="text/plain")
