"""The soft limits of one attempt, in the process that runs it: its handler sees them as exceptions.

What takes no notice is killed by the parent: see ``workers/watch.py``. Everything is put back when the handler has
stopped, whatever it did, since the next attempt runs in the same process.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tasks_app.policies import Resources
from workers import exits
from workers.exits import LimitReached
from workers.resources import MIB, cpu_s, status_bytes
from workers.scratch import Scratch

#: The kernel counts what is reserved, also where it is never touched: threads' stacks, the allocator's own.
MEMORY_SLACK_BYTES = 32 * MIB
#: Memory first, so that there is some for the rest.
_KEPT = [getattr(resource, f"RLIMIT_{name}") for name in ["DATA", "AS", "CORE", "CPU", "FSIZE", "NOFILE", "STACK"]]
_TICK_S = 0.01
_TIMERS = [(signal.SIGALRM, signal.ITIMER_REAL), (signal.SIGPROF, signal.ITIMER_PROF)]


@contextmanager
def limited(asked: Resources, *, timeout_s: float, scratch: Scratch) -> Iterator[None]:
    """Runs a handler within the limits it asked for.

    Raises :class:`LimitReached` in it at its timeout and when its processor time is used up. Memory beyond the limit
    is refused: MemoryError; so is a file that is larger than all its scratch may be: OSError with EFBIG.
    """
    with _put_back(), _rooms(asked, scratch), _interrupted(asked, timeout_s):
        yield


@contextmanager
def _put_back() -> Iterator[None]:
    """Puts back what a handler may change for those that come after it."""
    limits = {kind: resource.getrlimit(kind) for kind in _KEPT}
    mask, folder = signal.pthread_sigmask(signal.SIG_BLOCK, ()), _folder()
    variable, tempdir = os.environ.get("TMPDIR"), tempfile.tempdir
    try:
        yield
    finally:
        for kind, (soft, hard) in limits.items():
            _restore(kind, soft, hard)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        tempfile.tempdir = tempdir
        os.environ.pop("TMPDIR", None)
        if variable is not None:
            os.environ["TMPDIR"] = variable
        with contextlib.suppress(OSError):
            os.chdir(folder or "/")


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None  # somebody has removed it


def _restore(kind: int, soft: int, hard: int) -> None:
    if resource.getrlimit(kind) == (soft, hard):
        return
    try:
        resource.setrlimit(kind, (soft, hard))
    except (OSError, ValueError):
        # The handler has lowered the hard limit, which only a privileged process can raise again.
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard if soft == resource.RLIM_INFINITY else min(soft, hard), hard))


@contextmanager
def _rooms(asked: Resources, scratch: Scratch) -> Iterator[None]:
    """Limits of memory and of files."""
    if asked.disk_mb:
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch.folder())
        _lower(resource.RLIMIT_FSIZE, _logged_bytes() + asked.disk_mb * MIB)
    if asked.memory_mb:
        _lower(resource.RLIMIT_DATA, status_bytes("VmData") + asked.memory_mb * MIB + MEMORY_SLACK_BYTES)
    yield


def _lower(kind: int, size_bytes: int) -> None:
    """Lowers a soft limit; the hard one is left, so that the soft one can be raised again."""
    soft, hard = resource.getrlimit(kind)
    least = min([size_bytes, *[limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]])
    resource.setrlimit(kind, (least, hard))


def _logged_bytes() -> int:
    """How much stands in the files that standard output and error go to: the limit of a file's size is for them too."""
    sizes = [0]
    for fd in (1, 2):
        with contextlib.suppress(OSError):  # closed
            file = os.fstat(fd)
            sizes += [file.st_size] if stat.S_ISREG(file.st_mode) else []
    return max(sizes)


@contextmanager
def _interrupted(asked: Resources, timeout_s: float) -> Iterator[None]:
    """Interrupts a synchronous handler, once, and nothing but the handler: not the claim, not the finish.

    By timers of the child's own, since a limit that the worker's parent keeps may hit whatever the child does then.
    """
    armed, began_s = True, cpu_s()

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal armed
        left_s = asked.cpu_s - (cpu_s() - began_s) if number == signal.SIGPROF else 0.0
        if armed and left_s > _TICK_S:
            signal.setitimer(signal.ITIMER_PROF, left_s)  # it counts by ticks, and so may ring too early
        elif armed:
            armed = False
            raise LimitReached.by(exits.cpu_limit(asked) if number == signal.SIGPROF else exits.timeout(timeout_s))

    timers = _TIMERS if asked.cpu_s else _TIMERS[:1]
    before: list[Any] = [signal.signal(number, ring) for number, _ in timers]
    try:
        try:
            for (_, timer), seconds in zip(timers, (timeout_s, asked.cpu_s), strict=False):
                signal.setitimer(timer, seconds)
            yield
        finally:
            armed = False
    finally:
        # The one ring that there is may have interrupted the line above; from here on nothing can.
        armed = False
        for (number, timer), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler or signal.SIG_DFL)
