"""Processes: what a handler and all that it started use, and how to end what it left behind."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

#: How long killed processes are waited for.
REAP_S = 1.0
_PAUSE_S = 0.005
_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What a process and its descendants use now; ``processes`` are the descendants.

    ``rss_bytes`` are the process's own. ``pss_bytes`` are those of all together, where memory that several share counts
    once; None if there are no descendants.
    """

    rss_bytes: int
    pss_bytes: int | None
    cpu_s: float
    processes: list[psutil.Process] = field(default_factory=list)


def tree(pid: int) -> Tree:
    """Measures a process and its descendants. Raises ``psutil.Error`` if it is gone, also if nobody has reaped it yet.

    Processor time includes that of descendants that have ended and were waited for.
    """
    process = psutil.Process(pid)
    processes = descendants(pid)  # first: those of a process that dies meanwhile are no longer its own
    rss_bytes, cpu_s = process.memory_info().rss, sum(process.cpu_times()[:4])
    if rss_bytes == 0:
        raise psutil.ZombieProcess(pid)
    for child in processes:
        with contextlib.suppress(psutil.Error):
            cpu_s += sum(child.cpu_times()[:4])
    pss_bytes = sum(share_bytes(each.pid) for each in [process, *processes]) if processes else None
    return Tree(rss_bytes=rss_bytes, pss_bytes=pss_bytes, cpu_s=cpu_s, processes=processes)


def share_bytes(pid: int) -> int:
    """A process's memory, of which it counts only its share of what others have as well; 0 if it is gone."""
    try:
        process = psutil.Process(pid)
        return int(getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss)
    except psutil.Error:
        return 0


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below this one; those that start or end meanwhile may be missing."""
    found, waiting = [], [pid]
    while waiting:
        children = _children(waiting.pop())
        waiting += children
        for child in children:
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(child))
    return found


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kills those that still run; a process that has taken the number of one that ended is left alone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def end_descendants() -> None:
    """Kills and reaps what this process has started, so that nothing of one attempt reaches into the next."""
    deadline = time.monotonic() + REAP_S
    while _has_children():
        kill(descendants(os.getpid()))
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if time.monotonic() > deadline:
            log.warning("processes that a handler left behind do not end: %s", _children(os.getpid()))
            return
        time.sleep(_PAUSE_S)


def adopt_orphans() -> None:
    """Descendants whose parent dies become children of this process, and stay in its tree. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children(pid: int) -> list[int]:
    """By the kernel's own list, a hundred times faster than asking every process of the machine for its parent."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        lists = [(thread / "children").read_text() for thread in tasks.iterdir()]
    except FileNotFoundError:
        return _children_by_parent(pid)
    except OSError:
        return []  # it ended meanwhile
    return [int(child) for line in lists for child in line.split()]


def _children_by_parent(pid: int) -> list[int]:
    """Where the kernel has no such list."""
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
