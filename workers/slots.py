"""The cpu lane's table of slots, in memory shared between the worker's parent process and its children.

A child writes its attempt when it starts one and clears it when the handler has stopped. The parent reads it to extend
leases and to keep limits, on threads of its own: a child deep in C code would starve a heartbeat of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from tasks_app.policies import Resources, together
from workers.slot_memory import ATTEMPT, STOP, Table, place

log = logging.getLogger(__name__)

_NONE = bytes(16)
#: How long the pool may take to find out the status of a child that it has reaped.
STATUS_GRACE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A running attempt, as the parent sees it. ``asked`` are its limits; base values are those before its handler."""

    index: int
    pid: int
    attempt_id: UUID
    agent: str
    asked: Resources
    handling: bool
    base_rss_bytes: int
    base_pss_bytes: int
    base_cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """A child that died with an attempt. ``status`` as in ``subprocess``: a code, or a signal's number made negative;
    None if nobody knows."""

    attempt_id: UUID
    agent: str
    status: int | None


class SlotTable:
    """Made in the parent before it forks; each child owns the entry of its index."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, ctypes.sizeof(Table))
        self._table = Table.from_buffer(self._memory)
        self._flags, self._entries = self._table.running, self._table.entries
        self._lock = threading.Lock()  # among the parent's threads; no child takes it
        self._stop_asked_at: dict[UUID, float] = {}
        self._gone_at: dict[UUID, float] = {}
        self._exits: deque[Exit] = deque()
        self._statuses: dict[int, Callable[[], int | None]] = {}

    # In the child ----------------------------------------------------------------------------------------------------

    def take(
        self,
        index: int,
        attempt_id: UUID,
        *,
        agent: str = "",
        asked: Resources | None = None,
        heartbeat_timeout_s: float | None = None,
    ) -> None:
        """Puts an attempt on record; the parent looks at the entry only once it is complete."""
        asked, entry = asked or Resources(), self._entries[index]
        self._flags[index] = entry.handling = 0
        entry.pid, entry.agent = os.getpid(), agent.encode()
        entry.memory_mb, entry.cores = asked.memory_mb, asked.cores
        entry.disk_mb, entry.cpu_s = asked.disk_mb, asked.cpu_s
        entry.heartbeat_timeout_s, entry.alive_at = heartbeat_timeout_s or 0.0, time.monotonic()
        entry.peak_rss_bytes = entry.peak_disk_bytes = 0
        self._put_id(index, STOP, None)
        self._put_id(index, ATTEMPT, attempt_id)
        self._flags[index] = 1

    def clear(self, index: int) -> None:
        self._flags[index] = 0

    def handle(self, index: int, *, rss_bytes: int, cpu_s: float, pss_bytes: int = 0) -> None:
        """The handler starts now, with this much memory and processor time used by what was before it."""
        entry = self._entries[index]
        entry.base_rss_bytes, entry.base_pss_bytes = rss_bytes, pss_bytes
        entry.base_cpu_s, entry.alive_at = cpu_s, time.monotonic()
        entry.handling = 1

    def handled(self, index: int) -> tuple[int, int]:
        """The handler has stopped; the peaks that the parent saw: memory and scratch, in bytes."""
        entry = self._entries[index]
        entry.handling = 0
        return entry.peak_rss_bytes, entry.peak_disk_bytes

    def touch(self, index: int) -> None:
        """A sign of life of the handler."""
        self._entries[index].alive_at = time.monotonic()

    def told_to_stop(self, index: int, attempt_id: UUID) -> bool:
        return self._id(index, STOP) == attempt_id.bytes

    def is_draining(self) -> bool:
        return bool(self._table.draining)

    # In both ---------------------------------------------------------------------------------------------------------

    def in_use(self) -> Resources:
        """What all running attempts may use together."""
        return together([slot.asked for slot in self.slots()])

    # In the parent ---------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        self._table.draining = 1

    def slots(self) -> list[Slot]:
        """The attempts on record, also those whose process has died unseen."""
        return [self._slot(index) for index in self._running()]

    def live(self) -> set[UUID]:
        live = {slot.attempt_id for slot in self.slots() if _exit_of(slot.pid) == (False, None)}
        self._stop_asked_at = {key: at for key, at in self._stop_asked_at.items() if key in live}
        return live

    def silent(self) -> set[UUID]:
        """Handlers that have given no sign of life for longer than they may, and were not told to stop yet."""
        now, silent = time.monotonic(), set()
        for index in self._running():
            entry = self._entries[index]
            limit_s = entry.heartbeat_timeout_s
            if entry.handling and limit_s and now - entry.alive_at > limit_s:
                attempt_id = UUID(bytes=self._id(index, ATTEMPT))
                if not self.told_to_stop(index, attempt_id):
                    silent.add(attempt_id)
        return silent

    def saw(self, slot: Slot, *, peak_rss_bytes: int, peak_disk_bytes: int) -> None:
        """Leaves what the parent measured for the child, which puts it on record."""
        if self._holds(slot):
            entry = self._entries[slot.index]
            entry.peak_rss_bytes, entry.peak_disk_bytes = peak_rss_bytes, peak_disk_bytes

    def forked(self, pid: int, status: Callable[[], int | None]) -> None:
        """A new child, and who is asked for its exit status once it is no longer there to be looked up."""
        self._statuses[pid] = status

    def reaped(self, pid: int) -> None:
        """A child of the pool is dead. Said before another is started, which may have the same index."""
        with self._lock:
            for slot in self.slots():
                if slot.pid == pid:
                    self._bury(slot, self._status(pid))
            self._statuses.pop(pid, None)

    def exits(self) -> list[Exit]:
        """The children that died with an attempt since the last call; forgets them."""
        with self._lock:
            for slot in self.slots():
                dead, status = _exit_of(slot.pid)
                status = self._status(slot.pid) if dead and status is None else status
                if dead and (status is not None or self._is_long_gone(slot.attempt_id)):
                    self._bury(slot, status)
            exits, self._exits = list(self._exits), deque()
        return exits

    def stop(self, attempt_id: UUID) -> None:
        """Leaves word for the handler's context; kills the process if it goes on past the grace."""
        for slot in self.slots():
            if slot.attempt_id == attempt_id:
                asked_at = self._stop_asked_at.setdefault(attempt_id, time.monotonic())
                self._put_id(slot.index, STOP, attempt_id)
                if time.monotonic() - asked_at > settings.A2A_STOP_GRACE_S and self.kill(slot):
                    log.warning("attempt %s did not stop, its process %d is killed", attempt_id, slot.pid)

    def kill(self, slot: Slot) -> bool:
        """Kills the process if it still runs this very attempt."""
        if not self._holds(slot):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(slot.pid, signal.SIGKILL)
        return True

    def kill_all(self) -> None:
        for slot in self.slots():
            self.kill(slot)

    def _bury(self, slot: Slot, status: int | None) -> None:
        self.clear(slot.index)
        self._gone_at.pop(slot.attempt_id, None)
        self._exits.append(Exit(attempt_id=slot.attempt_id, agent=slot.agent, status=status))

    def _status(self, pid: int) -> int | None:
        ask = self._statuses.get(pid)
        return ask() if ask else None

    def _is_long_gone(self, attempt_id: UUID) -> bool:
        return time.monotonic() - self._gone_at.setdefault(attempt_id, time.monotonic()) > STATUS_GRACE_S

    def _holds(self, slot: Slot) -> bool:
        entry = self._entries[slot.index]
        same = self._id(slot.index, ATTEMPT) == slot.attempt_id.bytes
        return bool(self._flags[slot.index] and entry.pid == slot.pid and same)

    def _running(self) -> list[int]:
        flags, running, index = bytes(self._flags), [], -1
        while (index := flags.find(1, index + 1)) >= 0:
            running.append(index)
        return running

    def _slot(self, index: int) -> Slot:
        entry = self._entries[index]
        return Slot(
            index=index,
            pid=entry.pid,
            attempt_id=UUID(bytes=self._id(index, ATTEMPT)),
            agent=entry.agent.decode(errors="replace"),
            asked=Resources(memory_mb=entry.memory_mb, cores=entry.cores, disk_mb=entry.disk_mb, cpu_s=entry.cpu_s),
            handling=bool(entry.handling),
            base_rss_bytes=entry.base_rss_bytes,
            base_pss_bytes=entry.base_pss_bytes,
            base_cpu_s=entry.base_cpu_s,
        )

    def _id(self, index: int, offset: int) -> bytes:
        return self._memory[place(index, offset)]

    def _put_id(self, index: int, offset: int, attempt_id: UUID | None) -> None:
        self._memory[place(index, offset)] = attempt_id.bytes if attempt_id else _NONE


def _exit_of(pid: int) -> tuple[bool, int | None]:
    """Whether this child of ours is dead, and its exit status unless the pool has taken that already."""
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) if pid > 0 else None
    except ChildProcessError:
        return True, None
    if found is None:
        return pid <= 0, None
    return True, found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
