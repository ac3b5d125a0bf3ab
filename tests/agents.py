"""Agents that behave badly; the tests' stack finds them through ``A2A_AGENTS``."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from a2a.types import Message, Part

from tasks_app.agents import AgentError, Snooze, agent
from tasks_app.policies import BreakerPolicy, Resources, RetryPolicy
from workers.adapters import executor_agent, remote_agent


@agent("stubborn", lane="cpu", description="Works for a minute, whatever it is told.")
def stubborn(ctx: Any) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(BaseException):
            time.sleep(until - time.monotonic())


@agent("raises", lane="cpu", description="Raises what the text names.", retry=RetryPolicy(initial_s=0.05))
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


@agent("converses", lane="cpu", description="Asks first; dies once in its second turn; then says what it was told.")
@agent("converses-io", lane="io", description="The same, without dying.")
def converses(ctx: Any) -> str:
    ctx.artifact(f"turn {ctx.turn}", name="log", append=True, last_chunk=False)
    if ctx.turn == 1:
        ctx.require_input(Message(parts=[Part(text="which one?"), Part(url="https://example.org/choices")]))
    if "dies" in ctx.text and "died" not in ctx.checkpoints:
        ctx.checkpoint("died", True)
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{ctx.history[-1].parts[0].text} {ctx.text}"


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
        ctx.check()
        time.sleep(0.02)
    return "there it is"


@agent("coroutine-cpu", lane="cpu", description="Says what it does, as a coroutine in a process.", max_attempts=1)
async def coroutine_cpu(ctx: Any) -> str:
    for step in range(3):
        await asyncio.sleep(0.15)  # longer than what is said may wait: then it is written at once
        ctx.progress(step / 3, f"step {step}")
        ctx.checkpoint("step", step)
    return "done"


def _burn() -> None:
    while True:
        pass


def _allocate() -> bytearray:
    return bytearray(400 << 20)


def _share() -> None:
    """Uses memory that is refused to nobody: the soft limit does not count it."""
    shared = mmap.mmap(-1, 400 << 20)
    for _ in range(400):
        shared.write(bytes(1 << 20))
    time.sleep(60)


def _in_a_process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def _write_one(ctx: Any) -> None:
    (ctx.scratch / "one").write_bytes(bytes(16 << 20))


def _write_many(ctx: Any) -> None:
    for number in range(100_000):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(bytes(1 << 20))
        ctx.progress(number / 100_000)


_GREEDS: dict[str, Callable[[Any], object]] = {
    "modest": lambda ctx: bytearray(50 << 20) and (ctx.scratch / "a").write_bytes(bytes(1 << 20)) and "done",
    "memory": lambda ctx: len(_allocate()),
    "memory-shared": lambda ctx: _share(),
    "memory-in-a-process": lambda ctx: _in_a_process("x = bytearray(90 << 20); y = bytearray(90 << 20); input()"),
    "cpu": lambda ctx: _burn(),
    "cpu-in-a-process": lambda ctx: _in_a_process("while True: pass"),
    "disk": _write_one,
    "disk-in-many-files": _write_many,
    "segfault": lambda ctx: ctypes.string_at(0),
    "sigkill": lambda ctx: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda ctx: os._exit(7),
}


@agent(
    "greedy",
    lane="cpu",
    description="Uses more than it may, as the text names.",
    resources=Resources(memory_mb=100, cpu_s=1.0, disk_mb=4),
    max_attempts=2,
)
def greedy(ctx: Any) -> object:
    return _GREEDS[ctx.text](ctx)


@agent("forks", lane="cpu", description="Leaves a process behind, or comes back twice.")
def forks(ctx: Any) -> str:
    """Its result is the number of a process that would outlive it by a minute."""
    if ctx.text == "twice":
        return "child" if os.fork() == 0 else "parent"
    return str(subprocess.Popen(["sleep", "60"], start_new_session=True).pid)


@agent("prints", lane="cpu", description="Prints megabytes.")
def prints(ctx: Any) -> str:
    for _ in range(2000):
        print("x" * 1000)  # noqa: T201
        os.write(2, b"y" * 1000 + b"\n")
    return "done"


@agent("blocks", lane="cpu", description="Blocks in C with the interpreter's lock, where no signal gets in.")
def blocks(ctx: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # else the one that tells the time would end the sleep
    ctypes.PyDLL(None).sleep(60)


@agent("silent", lane="cpu", description="Says nothing for a minute.", heartbeat_timeout_s=1.0, max_attempts=2)
def silent(ctx: Any) -> str:
    if ctx.attempt == 1:
        time.sleep(60)
    for _ in range(10):  # longer than its heartbeat's timeout, but not without a word
        time.sleep(0.2)
        ctx.heartbeat()
    return f"attempt {ctx.attempt}"


@agent("silent-io", lane="io", description="Says nothing for a minute.", heartbeat_timeout_s=1.0, max_attempts=2)
async def silent_io(ctx: Any) -> str:
    if ctx.attempt == 1:
        await asyncio.sleep(60)
    return f"attempt {ctx.attempt}"


executor_agent("executor-slow", executor="tests.executors:Slow", description="Waits for a file.")
executor_agent("executor-slow-cpu", executor="tests.executors:Slow", lane="cpu", description="Waits for a file.")
executor_agent("executor-stubborn-cpu", executor="tests.executors:Stubborn", lane="cpu", description="Goes on.")

#: A server of the tests (``tests/remotes.py``), which may be down; and this very system, over its own door.
_REMOTE = os.environ.get("A2A_TEST_REMOTE", "http://127.0.0.1:9/")
_ITSELF = f"http://127.0.0.1:{os.environ.get('A2A_PORT', '9')}/a2a"
_PATIENT: dict[str, Any] = {"max_attempts": 50, "retry": RetryPolicy(initial_s=0.1, max_s=2)}

remote_agent("remote-slow", url=f"{_REMOTE}slow/", description="Waits for a file, elsewhere.", **_PATIENT)
remote_agent(
    "remote-broken",
    url=f"{_REMOTE}hello/",
    description="Says hello, elsewhere, if that is there.",
    breaker=BreakerPolicy(failures=3, window_s=60, open_s=1),
    **_PATIENT,
)
remote_agent(
    "remote-loaded",
    url=f"{_REMOTE}slow/",
    description="Waits for a file, elsewhere, few at once.",
    breaker=BreakerPolicy(failures=3, window_s=60, open_s=2),
    max_running=8,
    **_PATIENT,
)
remote_agent("itself-sleep", url=f"{_ITSELF}/sleep/", description="Sleeps, by way of this system's own door.")
remote_agent("itself-asks", url=f"{_ITSELF}/asks/", description="Asks, by way of this system's own door.")


@agent("asks", lane="io", description="Asks twice, in pieces.")
async def asks(ctx: Any) -> None:
    ctx.artifact(f"{ctx.text}\n", name="heard", append=ctx.turn > 1, last_chunk=ctx.turn > 2)
    if ctx.turn < 3:
        ctx.require_input(f"question {ctx.turn}")
    ctx.say("thank you")
