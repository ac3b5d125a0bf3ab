"""One job as a pipeline of named steps: claim → resolve → run → finish. Celery's signals drive it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import traceback
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

from billiard.exceptions import SoftTimeLimitExceeded
from billiard.process import current_process

from tasks_app import agents, engine
from tasks_app.agents import AgentError
from tasks_app.engine import Claim, ClaimRequest, Finish, Written
from tasks_app.models import Outcome
from tasks_app.status import TaskStatus
from tasks_app.wakeups import bell, rings
from workers.context import Context, LeaseLost, agent_message
from workers.loop import IoLoop
from workers.node import current
from workers.persist import persist
from workers.recording import CpuRecorder, IoRecorder
from workers.slots import SlotTable

log = logging.getLogger(__name__)

#: An error's text is cut here, so that a handler that raises megabytes does not fill the database.
ERROR_CHARS = 2_000
TRACEBACK_CHARS = 20_000


class TimedOut(AgentError):
    """The attempt ran longer than its timeout."""


@dataclass(slots=True)
class Run:
    """One claimed execution, carried on the job's request from signal to signal."""

    claim: Claim
    recorder: CpuRecorder | IoRecorder


class LaneRunner(Protocol):
    """How a lane claims, runs and finishes."""

    def claim(self, task_id: UUID, epoch: int) -> Run | None: ...

    def execute(self, run: Run) -> None: ...

    def finish(self, run: Run, finish: Finish) -> Written: ...


class CpuRunner:
    """In a prefork child: everything on the job's own thread and connection."""

    def __init__(self, table: SlotTable) -> None:
        self._table = table

    def claim(self, task_id: UUID, epoch: int) -> Run | None:
        claim = persist(engine.claim, [_request(task_id, epoch)])[0]
        if claim is None:
            return None
        # Only what was granted may be seen by the heartbeat: to it, an attempt that is not in the database is lost.
        index = _index()
        self._table.take(index, claim.attempt_id)
        bell.ring(rings(claim.lane, [task_id]))
        return Run(claim, CpuRecorder(claim, lambda: self._table.told_to_stop(index)))

    def execute(self, run: Run) -> None:
        handler, context = _resolve(run)
        try:
            result = handler(context)
            if inspect.iscoroutine(result):
                result = asyncio.run(asyncio.wait_for(result, run.claim.timeout_s))
        except (SoftTimeLimitExceeded, TimeoutError) as error:
            raise _timed_out(run.claim) from error
        _keep(context, result)

    def finish(self, run: Run, finish: Finish) -> Written:
        assert isinstance(run.recorder, CpuRecorder)  # noqa: S101 (narrows the type)
        try:
            return run.recorder.finish(finish)
        finally:
            self._table.clear(_index())


class IoRunner:
    """In a pool thread, with the lane's one event loop behind it."""

    def __init__(self, loop: IoLoop) -> None:
        self._loop = loop

    def claim(self, task_id: UUID, epoch: int) -> Run | None:
        claim = self._loop.run(self._loop.claim(_request(task_id, epoch)))
        if claim is None:
            return None
        recorder = IoRecorder(claim, self._loop)
        self._loop.started(recorder)
        return Run(claim, recorder)

    def execute(self, run: Run) -> None:
        assert isinstance(run.recorder, IoRecorder)  # noqa: S101 (narrows the type)
        handler, context = _resolve(run)
        result = handler(context)
        if inspect.iscoroutine(result):
            try:
                result = self._loop.run(asyncio.wait_for(self._loop.handle(run.recorder, result), run.claim.timeout_s))
            except TimeoutError as error:
                raise _timed_out(run.claim) from error
            except asyncio.CancelledError as error:
                raise LeaseLost(f"{run.claim.task_id} was stopped") from error
        _keep(context, result)

    def finish(self, run: Run, finish: Finish) -> Written:
        assert isinstance(run.recorder, IoRecorder)  # noqa: S101 (narrows the type)
        try:
            return self._loop.run(run.recorder.finish(finish))
        finally:
            self._loop.ended(run.claim.attempt_id)


def completed() -> Finish:
    return Finish(status=TaskStatus.COMPLETED, outcome=Outcome.COMPLETED)


def failed(run: Run, error: BaseException) -> Finish:
    """The end of an attempt whose handler raised."""
    if isinstance(error, AgentError):
        code, text, trace = error.code, str(error), ""
    else:
        code, text = "handler_error", f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS:]
    text = text.replace("\x00", "")[:ERROR_CHARS]
    return Finish(
        status=TaskStatus.FAILED,
        outcome=Outcome.TIMED_OUT if isinstance(error, TimedOut) else Outcome.FAILED,
        error={"code": code, "message": text},
        message=agent_message(run.claim, text),
        traceback=trace.replace("\x00", ""),
    )


def _request(task_id: UUID, epoch: int) -> ClaimRequest:
    node = current()
    pid = os.getpid()
    return ClaimRequest(task_id=task_id, epoch=epoch, attempt_id=uuid4(), worker=node.name, pid=pid)


def _resolve(run: Run) -> tuple[agents.Handler, Context]:
    try:
        handler = agents.get(run.claim.agent).handler
    except agents.UnknownAgent as error:
        raise AgentError(str(error), code="unknown_agent") from error
    return handler, Context(run.claim, run.recorder)


def _keep(context: Context, result: Any) -> None:
    """What a handler returns is its artifact, unless it returns nothing."""
    if result is not None:
        if not isinstance(result, bytes | str | dict | list):
            kind = type(result).__name__
            raise AgentError(f"the handler returned a {kind}; return text, bytes, JSON or nothing", code="bad_result")
        context.result(result)


def _timed_out(claim: Claim) -> TimedOut:
    return TimedOut(f"ran longer than its timeout of {claim.timeout_s:g} s", code="timeout")


def _index() -> int:
    """Which slot of the worker this child is."""
    return int(getattr(current_process(), "index", 0) or 0)
