"""The io lane's half of the pipeline: claim → resolve → run → finish, on the lane's one event loop."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from tasks_app import agents
from tasks_app.engine import Finish, Written
from tasks_app.engine.core import in_storage_thread
from workers import room, storing
from workers.context import Context
from workers.loop import IoLoop
from workers.node import current
from workers.recording import IoRecorder
from workers.runner import (
    Run,
    checked,
    claim_request,
    heartbeat_timeout_s,
    in_time,
    judged,
    keep,
    no_exit,
    resolve,
    unstorable,
)
from workers.scratch import Scratch, ScratchRoot


class IoRunner:
    """Called on the event loop. Coroutines run there; a handler that is a plain function has a thread for itself."""

    def __init__(self, loop: IoLoop, scratch: ScratchRoot, slots: int) -> None:
        self._loop = loop
        self._scratch = scratch
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="handler")

    async def claim(self, task_id: UUID, epoch: int) -> Run | None:
        claim = await self._loop.claim(claim_request(task_id, epoch))
        if claim is None:
            return None
        recorder = IoRecorder(claim, self._loop, heartbeat_timeout_s(claim))
        self._loop.started(recorder)
        excess = room.overfull(current(), claim)
        if excess is not None:
            await self._loop.lose(excess)
            self._loop.ended(claim.attempt_id)
            return None
        return Run(claim, recorder, self._scratch.of(claim.attempt_id))

    async def execute(self, run: Run) -> None:
        assert isinstance(run.recorder, IoRecorder)  # noqa: S101 (narrows the type)
        if storing.needs_files(run.claim):
            run.claim = await in_storage_thread(storing.with_files, run.claim)
        handler, context = resolve(run)
        if inspect.iscoroutinefunction(handler):
            result = _called(handler, context)
        else:
            result = await self._loop.loop.run_in_executor(self._threads, _called, handler, context)
        if inspect.iscoroutine(result):
            result = await self._loop.handle(run.recorder, in_time(result, run.claim))
        with judged():
            keep(run, context, result)

    def finish(self, run: Run, finish: Finish) -> None:
        """Begins to write the end; ``run.ending`` tells when it is written."""
        run.ending = self._finish(run, finish)

    def close(self) -> None:
        """Waits for plain functions. For tests: a worker's threads live as long as its process."""
        self._threads.shutdown()

    async def _finish(self, run: Run, finish: Finish) -> Written:
        assert isinstance(run.recorder, IoRecorder)  # noqa: S101 (narrows the type)
        try:
            try:
                return await run.recorder.finish(checked(run, finish))
            except Exception as error:
                return await run.recorder.finish(unstorable(run, error))
        finally:
            await self._clean(run.scratch)
            self._loop.ended(run.claim.attempt_id)

    async def _clean(self, scratch: Scratch) -> None:
        """Large folders take long to remove."""
        if scratch.path.exists():
            await asyncio.to_thread(scratch.remove)


def _called(handler: agents.Handler, context: Context) -> Any:
    with judged(), no_exit():
        return handler(context)
