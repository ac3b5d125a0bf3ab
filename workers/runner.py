"""One job as a pipeline of named steps: claim → resolve → run → finish. Celery's signals drive it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random
import signal
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Protocol
from uuid import UUID, uuid4

from billiard.process import current_process

from tasks_app import agents, engine, metrics
from tasks_app.agents import AgentError, Snooze
from tasks_app.database import OUTAGES
from tasks_app.engine import Claim, ClaimRequest, Finish, Offer, Written
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


class HandlerError(Exception):
    """A handler raised something that it did not mean for its client; ``__cause__`` is what."""


@dataclass(slots=True)
class Run:
    """One claimed execution, carried on the job's request from signal to signal."""

    claim: Claim
    recorder: CpuRecorder | IoRecorder
    #: What the handler raised.
    error: Exception | None = None


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
        claim = persist(engine.claim, [_request(task_id, epoch)], offer=_offer())[0]
        if claim is None:
            return None
        metrics.claimed([claim])
        # Only what was granted may be seen by the heartbeat: to it, an attempt that is not in the database is lost.
        index = child_index()
        self._table.take(index, claim.attempt_id)
        bell.ring(rings(claim.lane, [task_id]))
        return Run(claim, CpuRecorder(claim, lambda: self._table.told_to_stop(index, claim.attempt_id)))

    def execute(self, run: Run) -> None:
        handler, context = _resolve(run)
        with _judged(), alarm(run.claim):
            result = handler(context)
            if inspect.iscoroutine(result):
                result = asyncio.run(_in_time(result, run.claim))
            _keep(context, result)

    def finish(self, run: Run, finish: Finish) -> Written:
        assert isinstance(run.recorder, CpuRecorder)  # noqa: S101 (narrows the type)
        try:
            try:
                return run.recorder.finish(checked(run, finish))
            except Exception as error:
                return run.recorder.finish(unstorable(run, error))
        finally:
            self._table.clear(child_index())


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
        with _judged(), _no_exit():
            result = handler(context)
        if inspect.iscoroutine(result):
            result = self._loop.run(self._loop.handle(run.recorder, _in_time(result, run.claim)))
        with _judged():
            _keep(context, result)

    def finish(self, run: Run, finish: Finish) -> Written:
        assert isinstance(run.recorder, IoRecorder)  # noqa: S101 (narrows the type)
        try:
            try:
                return self._loop.run(run.recorder.finish(checked(run, finish)))
            except Exception as error:
                return self._loop.run(run.recorder.finish(unstorable(run, error)))
        finally:
            self._loop.ended(run.claim.attempt_id)


def finish_of(run: Run, error: BaseException) -> Finish:
    """The end of an attempt whose handler raised: put off, tried again while attempts are left, or failed."""
    if isinstance(error, Snooze):
        cause = {"code": "snoozed", "message": storable(str(error))[:ERROR_CHARS]}
        return Finish(
            status=TaskStatus.PENDING, outcome=Outcome.SNOOZED, error=cause, wait_s=error.delay_s, spend=False
        )
    finish, delay_s = failed(run, error), _delay_s(run.claim, error)
    if delay_s is None:
        return finish
    outcome = Outcome.RETRIED if finish.outcome == Outcome.FAILED else finish.outcome
    return replace(finish, status=TaskStatus.PENDING, outcome=outcome, wait_s=delay_s)


def _delay_s(claim: Claim, error: BaseException) -> float | None:
    """How long to wait before the task is tried again after this error; None if it is not."""
    if claim.spent + 1 >= claim.max_attempts:
        return None
    try:
        policy = agents.get(claim.agent).retry
    except agents.UnknownAgent:
        return None
    if isinstance(error, AgentError):
        again = error.retryable or error.code in policy.codes
    else:
        again = not isinstance(error, LeaseLost) and policy.retries(error.__cause__ or error)
    if not again:
        return None
    named = error.delay_s if isinstance(error, AgentError) else None
    return policy.delay_s(claim.spent, random.random()) if named is None else named  # noqa: S311 (no secret)


def completed() -> Finish:
    return Finish(status=TaskStatus.COMPLETED, outcome=Outcome.COMPLETED)


def failed(run: Run, error: BaseException) -> Finish:
    """The end of an attempt whose handler raised."""
    if isinstance(error, AgentError):
        code, text, trace = error.code, storable(str(error))[:ERROR_CHARS], ""
    else:
        code, text = "handler_error", str(error) if isinstance(error, HandlerError) else described(error)
        trace = storable("".join(traceback.format_exception(error.__cause__ or error))[-TRACEBACK_CHARS:])
    return Finish(
        status=TaskStatus.FAILED,
        outcome=Outcome.TIMED_OUT if isinstance(error, TimedOut) else Outcome.FAILED,
        error={"code": code, "message": text},
        message=agent_message(run.claim, text),
        traceback=trace,
    )


def checked(run: Run, finish: Finish) -> Finish:
    """The finish, unless something that was recorded before could not be stored: then the attempt has failed."""
    return finish if run.recorder.refused is None else unstorable(run, run.recorder.refused)


def unstorable(run: Run, error: Exception) -> Finish:
    """The end of an attempt whose records the database refused. Raises the error of an outage: the lease ends that."""
    if isinstance(error, OUTAGES):
        raise error
    log.warning("what %s recorded cannot be stored: %s", run.claim.task_id, error)
    return failed(run, AgentError("a record of the handler's cannot be stored", code="bad_result"))


@contextmanager
def _judged() -> Iterator[None]:
    """What a handler raises becomes an end that Celery and the engine both understand.

    Celery gives some exceptions a meaning of its own (Ignore, Reject), and a MemoryError ends its whole worker.
    """
    try:
        yield
    except (AgentError, Snooze, LeaseLost, HandlerError):
        raise
    except MemoryError as error:
        raise AgentError("the handler ran out of memory", code="out_of_memory") from error
    except Exception as error:
        raise HandlerError(described(error)) from error


@contextmanager
def _no_exit() -> Iterator[None]:
    """In the io lane a handler that asks its process to exit would take everybody else's with it."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:
        raise HandlerError(described(error)) from error


@contextmanager
def alarm(claim: Claim) -> Iterator[None]:
    """Interrupts a synchronous handler at its timeout, and nothing but the handler: not the claim, not the finish.

    By a timer of the child's own, since a limit that the worker's parent keeps may hit whatever the child does then.
    """

    def ring(number: int, frame: FrameType | None) -> None:
        raise _timed_out(claim)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, claim.timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def described(error: BaseException) -> str:
    """Class and text of an exception, whatever its ``__str__`` does, as text that can be stored."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be had)"
    return storable(f"{type(error).__name__}: {text}")[:ERROR_CHARS]


def storable(text: str) -> str:
    """Without what PostgreSQL's text cannot hold: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


async def _in_time(handler: Coroutine[Any, Any, Any], claim: Claim) -> Any:
    """Awaits a handler for as long as it may run. Its own TimeoutError is not taken for that."""
    limit = asyncio.timeout(claim.timeout_s)
    try:
        with _judged(), _no_exit():
            async with limit:
                return await handler
    except HandlerError as error:
        if limit.expired() and isinstance(error.__cause__, TimeoutError):
            raise _timed_out(claim) from error
        raise


def _request(task_id: UUID, epoch: int) -> ClaimRequest:
    node = current()
    pid = os.getpid()
    return ClaimRequest(task_id=task_id, epoch=epoch, attempt_id=uuid4(), worker=node.name, pid=pid)


def _offer() -> Offer:
    """What this worker can run."""
    return Offer(agents=tuple(agents.registered()))


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


def child_index() -> int:
    """Which slot of the worker this child is, from 0; nobody else that runs has it, and who replaces it has it next."""
    return int(getattr(current_process(), "index", 0) or 0)
