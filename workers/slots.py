"""The cpu lane's table of slots, in memory shared between the worker's parent process and its children.

A child writes its attempt when it starts one and clears it when the handler has stopped. The parent reads it to extend
leases, on a thread of its own: a child deep in C code would starve a heartbeat of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import signal
import struct
import sys
import time
from uuid import UUID

log = logging.getLogger(__name__)

_ENTRY = struct.Struct("=q16s16s")  # pid, attempt, the attempt that was told to stop
_ATTEMPT, _STOP = slice(8, 24), slice(24, 40)
_NONE = bytes(16)
SLOTS_MAX = 1024
#: The byte behind the entries: the worker shuts down.
_DRAINING = _ENTRY.size * SLOTS_MAX
#: How long a handler that was told to stop may go on before its process is killed.
STOP_GRACE_S = 5.0


class SlotTable:
    """Made in the parent before it forks; each child owns the entry of its index."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _DRAINING + 1)
        self._stop_asked_at: dict[UUID, float] = {}

    # In the child ----------------------------------------------------------------------------------------------------

    def take(self, index: int, attempt_id: UUID) -> None:
        """The pid first: the parent looks at an entry only once it names an attempt."""
        _ENTRY.pack_into(self._memory, index * _ENTRY.size, os.getpid(), _NONE, _NONE)
        self._put(index, _ATTEMPT, attempt_id)

    def clear(self, index: int) -> None:
        self._put(index, _ATTEMPT, None)

    def told_to_stop(self, index: int, attempt_id: UUID) -> bool:
        return self._entry(index)[2] == attempt_id.bytes

    def is_draining(self) -> bool:
        return self._memory[_DRAINING] != 0

    # In the parent ---------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        self._memory[_DRAINING] = 1

    def is_well(self) -> bool:
        return True

    def live(self) -> set[UUID]:
        live = {attempt_id for _, attempt_id, pid in self._entries() if _alive(pid)}
        self._stop_asked_at = {key: at for key, at in self._stop_asked_at.items() if key in live}
        return live

    def dead(self) -> set[UUID]:
        dead = set()
        for index, attempt_id, pid in self._entries():
            if not _alive(pid):
                dead.add(attempt_id)
                self.clear(index)
        return dead

    def stop(self, attempt_id: UUID) -> None:
        """Leaves word for the handler's context; kills the process if it goes on past the grace."""
        for index, running, pid in self._entries():
            if running != attempt_id:
                continue
            asked_at = self._stop_asked_at.setdefault(attempt_id, time.monotonic())
            self._put(index, _STOP, attempt_id)
            if time.monotonic() - asked_at > STOP_GRACE_S and self._entry(index)[:2] == (pid, attempt_id.bytes):
                log.warning("attempt %s did not stop, killing its process %d", attempt_id, pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        for _, _, pid in self._entries():
            if _alive(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _put(self, index: int, field: slice, attempt_id: UUID | None) -> None:
        start = index * _ENTRY.size
        self._memory[start + field.start : start + field.stop] = attempt_id.bytes if attempt_id else _NONE

    def _entry(self, index: int) -> tuple[int, bytes, bytes]:
        pid, attempt, stopped = _ENTRY.unpack_from(self._memory, index * _ENTRY.size)
        return pid, attempt, stopped

    def _entries(self) -> list[tuple[int, UUID, int]]:
        entries = [(index, *self._entry(index)) for index in range(SLOTS_MAX)]
        return [(index, UUID(bytes=attempt), pid) for index, pid, attempt, _ in entries if attempt != _NONE]


def _alive(pid: int) -> bool:
    """Whether this child of ours runs; one that has died and was not yet reaped does not."""
    if pid <= 0:
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def die_with_parent() -> None:
    """In a child: be killed when the parent dies.

    Without it the child of a killed worker would work on unseen, and then wait for ever for jobs that nobody sends.
    Linux only; elsewhere the lease ends its right to write.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
