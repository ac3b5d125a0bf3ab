"""Which live processes are ours, without supervisord's help: for what it left behind when it was killed.

A process is ours when it is the one recorded at its start (same pid and start time), belongs to that one's process
group or descends from it, or carries our marker in its environment. A pid alone proves nothing: pids are used again.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from stack.health import wait_until
from stack.scripts import MARKER

_START_TIME_FIELD = 22  # of /proc/<pid>/stat, counted from 1; the name, field 2, ends at the last parenthesis


@dataclass(frozen=True, slots=True)
class Record:
    """A process as it was when it started; `start_ticks` is None where there is no /proc."""

    pid: int
    start_ticks: int | None

    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        now = read_record(Path(f"/proc/{self.pid}/stat")) if self.start_ticks is not None else self
        return now == self and is_running(self.pid)


def parse_record(text: str) -> Record | None:
    """The record in a line of /proc/<pid>/stat, or in a line that holds only a pid."""
    head, _, tail = text.strip().rpartition(")")
    try:
        if not head:
            return Record(int(tail), None)
        return Record(int(head.split("(", 1)[0]), int(tail.split()[_START_TIME_FIELD - 3]))
    except (ValueError, IndexError):
        return None


def read_record(file: Path) -> Record | None:
    """The record in `file`; None when there is none, or it was written before this machine started."""
    try:
        if not file.is_relative_to("/proc") and file.stat().st_mtime < psutil.boot_time() - 1:
            return None
        return parse_record(file.read_text())
    except OSError:
        return None


def is_running(pid: int) -> bool:
    """Whether a process of that pid runs; a zombie waiting for its parent does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def ours(*, marker: str, records: Iterable[Record]) -> list[psutil.Process]:
    """Every live process that belongs to the run folder `marker` or to one of `records`."""
    leaders = {record.pid: record for record in records if record.is_alive() or not psutil.pid_exists(record.pid)}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _belongs(process, marker, leaders):
            found[process.pid] = process
            found |= {child.pid: child for child in _children(process)}
    return [process for process in found.values() if is_running(process.pid)]


def end(processes: Iterable[psutil.Process], *, with_signal: int = signal.SIGTERM, wait_s: float = 10.0) -> list[int]:
    """Ask the processes to end, kill those that still run after `wait_s`, and return the pids of all."""
    asked = list(processes)
    for process in asked:
        _send(process, with_signal)
    if not wait_gone(asked, timeout_s=wait_s):
        for process in asked:
            _send(process, signal.SIGKILL)
        wait_gone(asked, timeout_s=5)
    return [int(process.pid) for process in asked]


def wait_gone(processes: Iterable[psutil.Process], *, timeout_s: float) -> bool:
    """Wait until none of the processes runs. An orphan may stay a zombie for long: nobody need have reaped it."""
    waited = list(processes)
    return wait_until(lambda: not any(_runs(process) for process in waited), timeout_s=timeout_s)


def _belongs(process: psutil.Process, marker: str, leaders: dict[int, Record]) -> bool:
    try:
        leader = leaders.get(os.getpgid(process.pid))
        if leader is not None and (leader.start_ticks is None or _started(process.pid) >= leader.start_ticks):
            return True
        return bool(process.environ().get(MARKER) == marker)
    except (psutil.Error, OSError):
        return False


def _started(pid: int) -> int:
    now = read_record(Path(f"/proc/{pid}/stat"))
    return now.start_ticks if now is not None and now.start_ticks is not None else -1


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _runs(process: psutil.Process) -> bool:
    return bool(process.is_running()) and is_running(process.pid)


def _send(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)  # psutil compares start times first, so a reused pid is never hit
