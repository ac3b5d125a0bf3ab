"""Recorders: gather what a handler says and write it, fenced, a little later; one for each lane.

Progress is coalesced on the way: of what is said between two writes the last stays, and the finish carries that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks_app import engine, metrics, wakeups
from tasks_app.agents import AgentError
from tasks_app.database import OUTAGES
from tasks_app.engine import Claim, Finish, Note, Record, Write, Written
from tasks_app.engine.core import in_storage_thread
from tasks_app.wakeups import bell
from workers import storing
from workers.persist import persist

if TYPE_CHECKING:
    from workers.loop import IoLoop

log = logging.getLogger(__name__)

#: What is said waits at most this long.
FLUSH_S = 0.1


class _Gathered:
    """What both recorders share: the records not yet written, and the progress of those that are."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._fenced = False
        self._records: list[Record] = []
        self._progress = 0.0
        self._recorded = 0
        #: A write of which nobody knows whether it was stored: it goes again, as it was, before the next one.
        self._unsure: Write | None = None
        #: Why a record could not be stored; the attempt then ends with this.
        self.refused: Exception | None = None

    def _take(self, finish: Finish | None) -> Write:
        records, self._records = tuple(self._records), []
        item = Write(
            task_id=self.claim.task_id,
            attempt_id=self.claim.attempt_id,
            progress=self._progress,
            recorded=self._recorded,
            records=records,
            finish=finish,
        )
        return item

    def _note(self, item: Write, written: Written) -> None:
        if written.accepted:
            metrics.finished(item.finish, written)
            self._recorded = item.recorded + item.count
            notes = [record.progress or 0.0 for record in item.records if isinstance(record, Note)]
            self._progress = max([self._progress, *notes])
        else:
            self._fenced = True

    def _gather(self, record: Record) -> None:
        """Adds a record. Of progress that is said again before it was written, only the last is kept."""
        last = self._records[-1] if self._records else None
        if _is_progress(record) and _is_progress(last):
            self._records[-1] = record
        else:
            self._records.append(record)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """What cannot be stored never can be written: the attempt ends with why."""
        try:
            yield
        except OSError as error:
            self.refused, self._unsure = storing.failure(error), None
            raise self.refused from error

    def _failed(self, item: Write, error: Exception) -> None:
        """After a write that raised: what was refused never can be written; all else may have been, and is repeated."""
        if item.finish is None and not isinstance(error, (*OUTAGES, AgentError, MemoryError)):
            self._unsure = None
            self.refused = error


def _is_progress(record: Record | None) -> bool:
    return isinstance(record, Note) and record.kind == "progress"


class CpuRecorder(_Gathered):
    """Writes from the handler's own thread; what is left over, from the process's one :class:`_Later`."""

    def __init__(self, claim: Claim, told_to_stop: Callable[[], bool], alive: Callable[[], None]) -> None:
        super().__init__(claim)
        self._told_to_stop = told_to_stop
        self._alive = alive
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._written_at = time.monotonic()

    @property
    def lost(self) -> bool:
        return self._fenced or self._told_to_stop()

    def alive(self) -> None:
        self._alive()

    def add(self, record: Record) -> None:
        self._check_process()
        with self._lock:
            self._gather(record)
            if time.monotonic() - self._written_at >= FLUSH_S:
                self._write()
                return
        later().write(self)

    def store(self, record: Record) -> None:
        """Adds a record and writes it, with all that came before: it is durable when this returns."""
        self._check_process()
        with self._lock:
            self._records.append(record)
            self._write()

    def keep(self, record: Record) -> None:
        """Adds a record that the finish, which comes next, carries."""
        with self._lock:
            self._records.append(record)

    def finish(self, finish: Finish) -> Written:
        """Writes the rest together with the end."""
        with self._lock:
            return self._write(finish)

    async def flush(self) -> None:
        """Writes what waits: a coroutine of the cpu lane has its process for itself."""
        self.write_rest()

    def write_rest(self) -> None:
        """Writes what waits, if anything does."""
        with self._lock:
            if self._records:
                self._write()

    def _check_process(self) -> None:
        """A forked process would write through its parent's database connection, which no two can share."""
        if os.getpid() != self._pid:
            raise RuntimeError("a process that the handler forked cannot record anything: only the handler's own can")

    def _write(self, finish: Finish | None = None) -> Written:
        if self._unsure is not None:
            self._send(self._unsure)
        return self._send(self._take(finish))

    def _send(self, item: Write) -> Written:
        # Before anything that may raise: what is not stored goes again.
        self._unsure = None if item.finish else item
        with self._storing():
            item = storing.lightened(item)
        self._unsure = None if item.finish else item
        try:
            with self._storing():
                written = persist(engine.write, [item])[0]
        except Exception as error:  # also a limit of the handler's, which may come while it waits for the database
            self._failed(item, error)
            raise
        self._note(item, written)
        self._unsure = None
        self._written_at = time.monotonic()
        bell.ring(wakeups.written(self.claim.lane, item, written))
        return written


class _Later(threading.Thread):
    """One thread of a process, with a connection of its own: writes what a handler said before it fell silent."""

    def __init__(self) -> None:
        super().__init__(name="recorder", daemon=True)
        self._asked = threading.Event()
        self._recorder: CpuRecorder | None = None

    def write(self, recorder: CpuRecorder) -> None:
        self._recorder = recorder
        self._asked.set()

    def run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            time.sleep(FLUSH_S)
            recorder = self._recorder
            if recorder is not None:
                try:
                    recorder.write_rest()
                except Exception as error:
                    # The recorder remembers: the handler's own next write, or its finish, deals with it.
                    log.warning("could not write what %s said: %s", recorder.claim.task_id, error)


_later: _Later | None = None


def later() -> _Later:
    """This process's thread; a forked child starts its own."""
    global _later
    if _later is None or not _later.is_alive():
        _later = _Later()
        _later.start()
    return _later


class IoRecorder(_Gathered):
    """Writes through the io lane's group commit; one write of an attempt at a time, in order."""

    def __init__(self, claim: Claim, loop: IoLoop, heartbeat_timeout_s: float | None = None) -> None:
        super().__init__(claim)
        self._loop = loop
        self._lock = asyncio.Lock()
        self._pending: asyncio.Task[None] | None = None
        self.stopping = False
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._alive_at = time.monotonic()

    @property
    def lost(self) -> bool:
        return self._fenced or self.stopping

    def alive(self) -> None:
        self._alive_at = time.monotonic()

    def is_silent(self) -> bool:
        """Whether its handler gave no sign of life for longer than it may, and was not told to stop yet."""
        limit_s = self._heartbeat_timeout_s
        return limit_s is not None and not self.stopping and time.monotonic() - self._alive_at > limit_s

    def add(self, record: Record) -> None:
        self._loop.call(self._add, record)

    def store(self, record: Record) -> None:
        """As :meth:`add`: on the event loop nobody may wait for the database."""
        self._loop.call(self._add, record)

    def keep(self, record: Record) -> None:
        """Adds a record that the finish, which comes next, carries."""
        self._loop.call(lambda: self._records.append(record))

    def _add(self, record: Record) -> None:
        self._gather(record)
        if self._pending is None or self._pending.done():
            self._pending = asyncio.create_task(self._write_later())

    async def flush(self) -> None:
        """Writes what waits, if anything does."""
        await asyncio.sleep(0)  # what was said just now is still on its way to be gathered
        await self._disarm()
        if self._records or self._unsure is not None:
            await asyncio.shield(self._write(None))

    async def finish(self, finish: Finish) -> Written:
        """Writes the rest together with the end."""
        self._heartbeat_timeout_s = None  # the handler has ended
        # What it said last is still on its way to be gathered, if it was on this loop and has not awaited since.
        await asyncio.sleep(0)
        await self._disarm()
        return await self._write(finish)

    async def _disarm(self) -> None:
        """Who writes now need not be followed by the write that was to come."""
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.wait([self._pending])

    async def _write_later(self) -> None:
        await asyncio.sleep(FLUSH_S)
        try:
            await asyncio.shield(self._write(None))
        except Exception as error:
            log.warning("could not write what %s said: %s", self.claim.task_id, error)

    async def _write(self, finish: Finish | None) -> Written:
        async with self._lock:
            if self._unsure is not None:
                await self._send(self._unsure)
            return await self._send(self._take(finish))

    async def _send(self, item: Write) -> Written:
        self._unsure = None if item.finish else item
        if storing.is_heavy(item):
            with self._storing():
                item = await in_storage_thread(storing.lightened, item)
            self._unsure = None if item.finish else item
        try:
            with self._storing():
                written = await self._loop.write(item)
        except Exception as error:
            self._failed(item, error)
            raise
        self._note(item, written)
        self._unsure = None
        return written
