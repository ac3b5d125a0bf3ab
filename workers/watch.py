"""Keeps the limits of the cpu lane's attempts, from the worker's parent process.

A thread measures every handler's processes and its scratch folder, kills what is over its limit, and says what each
child that died with an attempt died of. It never touches the database: what it finds, the heartbeat puts on record.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import psutil  # type: ignore[import-untyped]

from tasks_app.engine import Lost, Usage
from tasks_app.engine.records import UNMEASURED
from tasks_app.policies import Resources
from workers import cgroup, exits, procs
from workers.exits import Cause, OomWatch
from workers.resources import overrun
from workers.scratch import ScratchRoot
from workers.slots import Exit, Slot, SlotTable

log = logging.getLogger(__name__)

#: How often it looks; less often where looking itself takes long (many processes, many files).
LOOK_S = 0.2
_SHARE = 0.1


@dataclass(slots=True)
class _Seen:
    """What was seen of an attempt. ``killed``: why its process was killed, if it was."""

    peak_rss_bytes: int = 0
    cpu_s: float = 0.0
    peak_disk_bytes: int = 0
    processes: list[psutil.Process] = field(default_factory=list)
    killed: Cause | None = None
    measured: bool = False

    def usage(self) -> Usage:
        if not self.measured:
            return UNMEASURED
        return Usage(peak_rss_bytes=self.peak_rss_bytes, cpu_s=self.cpu_s, disk_bytes=self.peak_disk_bytes)


class Watch:
    """What runs in the cpu lane, as the worker's parent sees it. ``on_loss`` is called when an attempt was lost."""

    def __init__(self, table: SlotTable, scratch: ScratchRoot, on_loss: Callable[[], None]) -> None:
        self._table, self._scratch, self._on_loss = table, scratch, on_loss
        self._seen: dict[UUID, _Seen] = {}
        self._lost: list[Lost] = []
        self._lock = threading.Lock()
        self._oom = OomWatch(cgroup.oom_kills)

    def start(self) -> None:
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def is_well(self) -> bool:
        return True

    def live(self) -> set[UUID]:
        return self._table.live()

    def in_use(self) -> Resources:
        return self._table.in_use()

    def silent(self) -> set[UUID]:
        return self._table.silent()

    def stop(self, attempt_id: UUID) -> None:
        self._table.stop(attempt_id)

    def drain(self) -> None:
        self._table.drain()

    def is_draining(self) -> bool:
        return self._table.is_draining()

    def kill(self) -> None:
        self._table.kill_all()
        for seen in list(self._seen.values()):
            procs.kill(seen.processes)

    def forked(self, pid: int, status: Callable[[], int | None]) -> None:
        self._table.forked(pid, status)

    def reaped(self, pid: int) -> None:
        self._table.reaped(pid)

    def _run(self) -> None:
        while True:
            began_at = time.monotonic()
            try:
                self.look()
            except Exception:
                log.exception("watch: one look failed")
            took_s = time.monotonic() - began_at
            time.sleep(max(LOOK_S, took_s / _SHARE))

    def look(self) -> None:
        """One look at all slots."""
        slots = self._table.slots()
        if slots:
            self._oom.look()
        for slot in slots:
            if slot.handling:
                with contextlib.suppress(psutil.Error):  # it has just died
                    self._measure(slot)
        self._take_exits()
        running = {slot.attempt_id for slot in slots}
        self._seen = {attempt_id: seen for attempt_id, seen in self._seen.items() if attempt_id in running}

    def lost(self) -> list[Lost]:
        """The attempts that died with their process since the last call, each with its cause."""
        self._take_exits()
        with self._lock:
            lost, self._lost = self._lost, []
        return lost

    def _measure(self, slot: Slot) -> None:
        seen = self._seen.setdefault(slot.attempt_id, _Seen(peak_rss_bytes=slot.base_rss_bytes))
        tree = procs.tree(slot.pid)
        disk_bytes = self._scratch.of(slot.attempt_id).used_bytes()
        seen.measured, seen.processes = True, tree.processes
        seen.peak_rss_bytes = max(seen.peak_rss_bytes, tree.rss_bytes, tree.pss_bytes or 0)
        seen.peak_disk_bytes = max(seen.peak_disk_bytes, disk_bytes)
        seen.cpu_s = max(seen.cpu_s, tree.cpu_s - slot.base_cpu_s)
        self._table.saw(slot, peak_rss_bytes=seen.peak_rss_bytes, peak_disk_bytes=seen.peak_disk_bytes)
        if tree.pss_bytes is None:
            added_bytes = tree.rss_bytes - slot.base_rss_bytes
        else:
            added_bytes = tree.pss_bytes - slot.base_pss_bytes
        cause = overrun(slot.asked, added_bytes=added_bytes, cpu_s=seen.cpu_s, disk_bytes=disk_bytes)
        if cause is not None:
            self._kill(slot, seen, cause)

    def _kill(self, slot: Slot, seen: _Seen, cause: Cause) -> None:
        """The cause first, since who finds the process dead looks for it."""
        before, seen.killed = seen.killed, seen.killed or cause
        if self._table.kill(slot):
            if before is None:
                log.warning("attempt %s %s: its process %d is killed", slot.attempt_id, cause.message, slot.pid)
        else:
            seen.killed = before

    def _take_exits(self) -> None:
        with self._lock:
            lost = [self._judged(exit) for exit in self._table.exits()]
            self._lost += lost
        if lost:
            self._on_loss()

    def _judged(self, exit: Exit) -> Lost:
        seen = self._seen.get(exit.attempt_id, _Seen())
        procs.kill(seen.processes)
        self._scratch.of(exit.attempt_id).remove()
        cause = exits.cause_of(exit.status, killed=seen.killed, oom=self._oom.rose())
        return exits.loss(exit, cause, seen.usage())
