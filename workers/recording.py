"""Recorders: gather what a handler says and write it, fenced, a little later; one for each lane.

Progress is coalesced on the way: of several notes between two writes each stays on record, in one statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db import connection

from tasks_app import engine
from tasks_app.engine import ArtifactRecord, Claim, Finish, Note, Write, Written
from tasks_app.wakeups import bell, rings
from workers.persist import persist

if TYPE_CHECKING:
    from workers.loop import IoLoop

#: What is said waits at most this long.
FLUSH_S = 0.1


class _Gathered:
    """What both recorders share: the records not yet written, and the progress of those that are."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._fenced = False
        self._records: list[Note | ArtifactRecord] = []
        self._progress = 0.0

    def _take(self, finish: Finish | None) -> Write:
        records, self._records = tuple(self._records), []
        item = Write(
            task_id=self.claim.task_id,
            attempt_id=self.claim.attempt_id,
            progress=self._progress,
            records=records,
            finish=finish,
        )
        self._progress = max([self._progress, *[r.progress or 0.0 for r in records if isinstance(r, Note)]])
        return item

    def _note(self, written: Written) -> None:
        self._fenced = self._fenced or not written.accepted


class CpuRecorder(_Gathered):
    """Writes from the handler's own thread; what is left over, from a timer's."""

    def __init__(self, claim: Claim, told_to_stop: Callable[[], bool]) -> None:
        super().__init__(claim)
        self._told_to_stop = told_to_stop
        self._lock = threading.Lock()
        self._written_at = time.monotonic()
        self._timer: threading.Timer | None = None

    @property
    def lost(self) -> bool:
        return self._fenced or self._told_to_stop()

    def add(self, record: Note | ArtifactRecord) -> None:
        with self._lock:
            self._records.append(record)
            if time.monotonic() - self._written_at >= FLUSH_S:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(FLUSH_S, self._write_later)
                self._timer.daemon = True
                self._timer.start()

    def finish(self, finish: Finish) -> Written:
        """Writes the rest together with the end."""
        with self._lock:
            return self._write(finish)

    def _write_later(self) -> None:
        with self._lock:
            if self._records:
                self._write()
        connection.close()

    def _write(self, finish: Finish | None = None) -> Written:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        written = persist(engine.write, [self._take(finish)])[0]
        self._note(written)
        self._written_at = time.monotonic()
        bell.ring(rings(self.claim.lane, [self.claim.task_id], freed=1 if finish else 0))
        return written


class IoRecorder(_Gathered):
    """Writes through the io lane's group commit; one write of an attempt at a time, in order."""

    def __init__(self, claim: Claim, loop: IoLoop) -> None:
        super().__init__(claim)
        self._loop = loop
        self._lock = asyncio.Lock()
        self._pending: asyncio.Task[None] | None = None
        self.stopping = False

    @property
    def lost(self) -> bool:
        return self._fenced or self.stopping

    def add(self, record: Note | ArtifactRecord) -> None:
        self._loop.call(self._add, record)

    def _add(self, record: Note | ArtifactRecord) -> None:
        self._records.append(record)
        if self._pending is None or self._pending.done():
            self._pending = asyncio.create_task(self._write_later())

    async def finish(self, finish: Finish) -> Written:
        """Writes the rest together with the end."""
        if self._pending is not None:
            self._pending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pending
        return await self._write(finish)

    async def _write_later(self) -> None:
        await asyncio.sleep(FLUSH_S)
        await asyncio.shield(self._write(None))

    async def _write(self, finish: Finish | None) -> Written:
        async with self._lock:
            written = await self._loop.write(self._take(finish))
            self._note(written)
            return written
