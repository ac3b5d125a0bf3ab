"""The io lane's event loop: handlers run on it as coroutines, and their claims and writes share statements (D3)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings

from tasks_app import engine, metrics, wakeups
from tasks_app.database import Line, is_poison
from tasks_app.engine import Claim, ClaimRequest, Lost, Write, Written
from tasks_app.groupcommit import Flusher
from tasks_app.policies import Resources, together
from tasks_app.wakeups import AsyncBell, rings
from workers import node, room
from workers.context import LeaseLost
from workers.recording import IoRecorder

T = TypeVar("T")
log = logging.getLogger(__name__)
TICK_S = 0.5


class IoLoop:
    """One event loop on a thread of its own, with a connection for claims and one for writes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_for_ever, name="io-loop", daemon=True)
        self._ticked_at = time.monotonic()
        self._claims = Line(patience_s=settings.A2A_LEASE_S)
        self._writes = Line(patience_s=settings.A2A_LEASE_S)
        self._bell = AsyncBell()
        self._claimer: Flusher[ClaimRequest, Claim | None] = Flusher(self._claim_all, is_poison=is_poison)
        self._writer: Flusher[Write, Written] = Flusher(self._write_all, is_poison=is_poison, size_bytes=_size_bytes)
        self._running: dict[UUID, tuple[IoRecorder, asyncio.Future[Any] | None]] = {}
        self._stop_asked_at: dict[UUID, float] = {}
        self._reported: set[UUID] = set()
        self._jobs: set[asyncio.Task[Any]] = set()
        self._draining = False
        self._closed = False
        self.loop.call_soon(self._tick)
        self._thread.start()

    # From other threads ----------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Calls it on the loop, soon; does not wait."""
        self.loop.call_soon_threadsafe(function, *args)

    def start(self) -> None:
        """Nothing: its thread runs from when it is made, since the lane's pool forks nothing."""

    def stop(self, attempt_id: UUID) -> None:
        """Cancels the coroutine of an attempt that lost its lease; a synchronous handler sees ``cancelled``.

        One that goes on all the same is fenced and keeps its slot: it is told again, and reported once.
        """
        recorder, future = self._running.get(attempt_id, (None, None))
        if recorder is None:
            return
        asked_at = self._stop_asked_at.setdefault(attempt_id, time.monotonic())
        late = time.monotonic() - asked_at > settings.A2A_STOP_GRACE_S
        if recorder.stopping and late and attempt_id not in self._reported:
            self._reported.add(attempt_id)
            log.error(
                "attempt %s of task %s (%s) was told to stop and goes on: it holds a slot until it ends",
                attempt_id,
                recorder.claim.task_id,
                recorder.claim.agent,
            )
        recorder.stopping = True
        if future is not None:
            self.call(future.cancel)

    def is_well(self) -> bool:
        """Whether the loop turns: a handler that blocks it stops every other one, so its leases must not be held."""
        return bool(time.monotonic() - self._ticked_at < settings.A2A_LEASE_S / 2)

    def live(self) -> set[UUID]:
        return set(self._running.copy()) if self.is_well() else set()

    def forked(self, pid: int, status: Callable[[], int | None]) -> None:
        """Not by the lane's pool."""

    def reaped(self, pid: int) -> None:
        """Not by the lane's pool."""

    def lost(self) -> list[Lost]:
        """None: a thread does not die alone."""
        return []

    def silent(self) -> set[UUID]:
        return {attempt_id for attempt_id, (recorder, _) in self._running.copy().items() if recorder.is_silent()}

    def drain(self) -> None:
        self._draining = True

    def is_draining(self) -> bool:
        return self._draining

    def kill(self) -> None:
        """Nothing to do: threads and coroutines end with the process."""

    def started(self, recorder: IoRecorder) -> None:
        self._running[recorder.claim.attempt_id] = (recorder, None)

    def ended(self, attempt_id: UUID) -> None:
        self._running.pop(attempt_id, None)
        self._stop_asked_at.pop(attempt_id, None)
        self._reported.discard(attempt_id)

    def close(self) -> None:
        """Ends the loop and its connections. For tests: a worker's lives as long as its process."""
        for line in (self._claims, self._writes):
            asyncio.run_coroutine_threadsafe(line.close(), self.loop).result()
        self._closed = True
        self.call(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _run_for_ever(self) -> None:
        while not self._closed:
            try:
                self.loop.run_forever()
            except BaseException:
                # asyncio lets SystemExit of a task that a handler started end the loop, and with it the lane.
                log.exception("the event loop was ended; it goes on")

    # On the loop -----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._ticked_at = time.monotonic()
        self.loop.call_later(TICK_S, self._tick)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Runs it, and keeps it until it has ended: the loop itself holds its tasks only weakly."""
        task = self.loop.create_task(coroutine)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def claim(self, request: ClaimRequest) -> Claim | None:
        return await self._claimer.submit(request)

    async def write(self, item: Write) -> Written:
        return await self._writer.submit(item)

    async def lose(self, lost: Lost) -> None:
        """Gives a claim back."""
        await self._claims.run(engine.lose, [lost])

    async def handle(self, recorder: IoRecorder, handler: Coroutine[Any, Any, T]) -> T:
        """Runs an async handler so that :meth:`stop` can cancel it. Raises LeaseLost when it was."""
        future = asyncio.ensure_future(handler)
        self._running[recorder.claim.attempt_id] = (recorder, future)
        try:
            return await future
        except asyncio.CancelledError as error:
            raise LeaseLost(f"task {recorder.claim.task_id} was stopped") from error

    def in_use(self) -> Resources:
        """What all running attempts may use together."""
        return together([recorder.claim.resources for recorder, _ in self._running.copy().values()])

    async def _claim_all(self, items: Sequence[ClaimRequest]) -> list[Claim | None]:
        claims = await self._claims.run(engine.claim, items, offer=room.offer(node.current()))
        metrics.claimed(claims)
        self._bell.ring([bell for claim in claims if claim for bell in rings(claim.lane, [claim.task_id])])
        return claims

    async def _write_all(self, items: Sequence[Write]) -> list[Written]:
        results = await self._writes.run(engine.write, items)
        self._bell.ring([ring for pair in zip(items, results, strict=True) for ring in wakeups.written("io", *pair)])
        return results


def _size_bytes(item: Write) -> int:
    records = (record for record in item.records if isinstance(record, engine.ArtifactRecord))
    return sum(len(chunk.content) for record in records for chunk in record.chunks)
