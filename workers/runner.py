"""One job as a pipeline of named steps: claim → resolve → run → finish. Celery's signals drive it."""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
import random
import traceback
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID, uuid4

from a2a.types import Message
from billiard.process import current_process

from tasks_app import agents, engine, metrics
from tasks_app.agents import AgentError, Snooze, TurnEnd
from tasks_app.database import OUTAGES
from tasks_app.engine import Claim, ClaimRequest, Finish, Usage, Written
from tasks_app.engine.records import UNMEASURED
from tasks_app.models import Outcome
from tasks_app.policies import UNSIZED, Resources
from tasks_app.status import INTERRUPTED, TaskStatus
from tasks_app.wakeups import bell, rings
from workers import exits, procs, room, storing
from workers.context import Context, LeaseLost, agent_message
from workers.exits import LimitReached
from workers.limits import limited
from workers.node import current
from workers.persist import persist
from workers.recording import CpuRecorder, IoRecorder
from workers.resources import Meter
from workers.scratch import Scratch, ScratchRoot
from workers.slots import SlotTable

log = logging.getLogger(__name__)

#: An error's text is cut here, so that a handler that raises megabytes does not fill the database.
ERROR_CHARS = 2_000
TRACEBACK_CHARS = 20_000


class HandlerError(Exception):
    """A handler raised something that it did not mean for its client; ``__cause__`` is what."""


@dataclass(slots=True)
class Run:
    """One claimed execution, carried on the job's request from signal to signal."""

    claim: Claim
    recorder: CpuRecorder | IoRecorder
    scratch: Scratch
    #: What the handler raised.
    error: Exception | None = None
    #: What it said last, by returning it: an A2A Message as protobuf bytes.
    reply: bytes | None = None
    #: What it used, in the cpu lane, once it has stopped.
    usage: Usage = UNMEASURED
    #: In the io lane: its end on the way to the database.
    ending: Awaitable[Written] | None = None


class LaneRunner(Protocol):
    """How a lane claims, runs and finishes; the io lane (``workers/io_runner.py``) answers with what can be awaited."""

    def claim(self, task_id: UUID, epoch: int) -> Any: ...

    def execute(self, run: Run) -> Any: ...

    def finish(self, run: Run, finish: Finish) -> Any: ...


class CpuRunner:
    """In a prefork child: everything on the job's own thread and connection."""

    def __init__(self, table: SlotTable, scratch: ScratchRoot) -> None:
        self._table = table
        self._scratch = scratch

    def claim(self, task_id: UUID, epoch: int) -> Run | None:
        claim = persist(engine.claim, [claim_request(task_id, epoch)], offer=room.offer(current()))[0]
        if claim is None:
            return None
        metrics.claimed([claim])
        # Only what was granted may be seen by the heartbeat: to it, an attempt that is not in the database is lost.
        index, table = child_index(), self._table
        silence_s = heartbeat_timeout_s(claim)
        table.take(index, claim.attempt_id, agent=claim.agent, asked=claim.resources, heartbeat_timeout_s=silence_s)
        excess = room.overfull(current(), claim)
        if excess is not None:
            persist(engine.lose, [excess])
            table.clear(index)
            return None
        bell.ring(rings(claim.lane, [task_id]))
        recorder = CpuRecorder(
            claim,
            told_to_stop=lambda: table.told_to_stop(index, claim.attempt_id),
            alive=lambda: table.touch(index),
        )
        return Run(claim, recorder, self._scratch.of(claim.attempt_id))

    def execute(self, run: Run) -> None:
        run.claim = storing.with_files(run.claim)
        handler, context = resolve(run)
        limits = limited(run.claim.resources, timeout_s=run.claim.timeout_s, scratch=run.scratch)
        with judged(run.claim.resources), self._measured(run), limits:
            keep(run, context, _called(handler, context, run.claim))

    @contextmanager
    def _measured(self, run: Run) -> Iterator[None]:
        """From here to its end the handler is measured, in this process and by the parent, which keeps its limits."""
        index, meter = child_index(), Meter()
        pss_bytes = procs.share_bytes(os.getpid()) if run.claim.resources.memory_mb else 0
        self._table.handle(index, rss_bytes=meter.rss_bytes, cpu_s=meter.cpu_s, pss_bytes=pss_bytes)
        try:
            yield
        finally:
            procs.end_descendants()
            rss_bytes, disk_bytes = self._table.handled(index)
            disk_bytes = max(disk_bytes, run.scratch.used_bytes())
            run.usage = meter.usage(peak_rss_bytes=rss_bytes, disk_bytes=disk_bytes)

    def finish(self, run: Run, finish: Finish) -> Written:
        assert isinstance(run.recorder, CpuRecorder)  # noqa: S101 (narrows the type)
        try:
            try:
                return run.recorder.finish(replace(checked(run, finish), usage=run.usage))
            except Exception as error:
                return run.recorder.finish(replace(unstorable(run, error), usage=run.usage))
        finally:
            run.scratch.remove()
            self._table.clear(child_index())


def finish_of(run: Run, error: BaseException) -> Finish:
    """The end of an attempt whose handler raised: as it chose, put off, tried again while attempts are left, failed."""
    if isinstance(error, Snooze):
        cause = {"code": "snoozed", "message": storable(str(error))[:ERROR_CHARS]}
        return Finish(
            status=TaskStatus.PENDING, outcome=Outcome.SNOOZED, error=cause, wait_s=error.delay_s, spend=False
        )
    if isinstance(error, TurnEnd):
        return _turn_ended(run.claim, error)
    finish, delay_s = failed(run, error), _delay_s(run.claim, error)
    if delay_s is None:
        return finish
    outcome = Outcome.RETRIED if finish.outcome == Outcome.FAILED else finish.outcome
    return replace(finish, status=TaskStatus.PENDING, outcome=outcome, wait_s=delay_s)


def _turn_ended(claim: Claim, error: TurnEnd) -> Finish:
    """The end of a turn as its handler chose it: it waits for its client, or the task is rejected or cancelled."""
    message = agent_message(claim, sayable(error.message)) if error.message else None
    if error.status in INTERRUPTED:
        wait_s = agents.get(claim.agent).input_timeout_s
        return Finish(status=error.status, outcome=Outcome.INTERRUPTED, message=message, wait_s=wait_s, spend=False)
    cause = {"code": error.status.value, "message": storable(str(error))[:ERROR_CHARS]}
    return Finish(status=error.status, outcome=Outcome(error.status.value), error=cause, message=message)


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


def completed(run: Run) -> Finish:
    return Finish(status=TaskStatus.COMPLETED, outcome=Outcome.COMPLETED, message=run.reply)


def failed(run: Run, error: BaseException) -> Finish:
    """The end of an attempt whose handler raised."""
    said: str | Message
    if isinstance(error, AgentError):
        code, text, trace = error.code, storable(str(error))[:ERROR_CHARS], ""
        said = error.message if isinstance(error.message, Message) else text
    else:
        code, text = "handler_error", str(error) if isinstance(error, HandlerError) else described(error)
        trace = storable("".join(traceback.format_exception(error.__cause__ or error))[-TRACEBACK_CHARS:])
        said = text
    return Finish(
        status=TaskStatus.FAILED,
        outcome=error.outcome if isinstance(error, LimitReached) else Outcome.FAILED,
        error={"code": code, "message": text},
        message=agent_message(run.claim, said),
        traceback=trace,
    )


def checked(run: Run, finish: Finish) -> Finish:
    """The finish, unless something that was recorded before could not be stored: then the attempt has failed."""
    return finish if run.recorder.refused is None else unstorable(run, run.recorder.refused)


def unstorable(run: Run, error: Exception) -> Finish:
    """The end of an attempt whose records could not be stored. Raises the error of an outage: the lease ends that."""
    if isinstance(error, OUTAGES):
        raise error
    if isinstance(error, AgentError):
        return finish_of(run, error)
    log.warning("what %s recorded cannot be stored: %s", run.claim.task_id, error)
    return failed(run, AgentError("a record of the handler's cannot be stored", code="bad_result"))


@contextmanager
def judged(asked: Resources = UNSIZED) -> Iterator[None]:
    """What a handler raises becomes an end that Celery and the engine both understand.

    Celery gives some exceptions a meaning of its own (Ignore, Reject), and a MemoryError ends its whole worker.
    """
    try:
        yield
    except (AgentError, Snooze, TurnEnd, LeaseLost, HandlerError):
        raise
    except MemoryError as error:
        raise LimitReached.by(exits.out_of_memory(asked)) from error
    except OSError as error:
        if error.errno == errno.EFBIG and asked.disk_mb:
            raise LimitReached.by(exits.disk_limit(asked)) from error
        raise HandlerError(described(error)) from error
    except Exception as error:
        raise HandlerError(described(error)) from error


@contextmanager
def no_exit() -> Iterator[None]:
    """In the io lane a handler that asks its process to exit would take everybody else's with it."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:
        raise HandlerError(described(error)) from error


def _called(handler: agents.Handler, context: Context, claim: Claim) -> Any:
    """What the handler returns. A process that it forked never comes back from here: it would do the worker's work."""
    pid = os.getpid()
    try:
        result = handler(context)
        return asyncio.run(in_time(result, claim)) if inspect.iscoroutine(result) else result
    finally:
        if os.getpid() != pid:
            os._exit(0)


def described(error: BaseException) -> str:
    """Class and text of an exception, whatever its ``__str__`` does, as text that can be stored."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be had)"
    return storable(f"{type(error).__name__}: {text}")[:ERROR_CHARS]


def sayable(message: str | Message) -> str | Message:
    """What a message may hold: a text as it can be stored, or an A2A Message as it is."""
    return storable(message) if isinstance(message, str) else message


def storable(text: str) -> str:
    """Without what PostgreSQL's text cannot hold: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


async def in_time(handler: Coroutine[Any, Any, Any], claim: Claim) -> Any:
    """Awaits a handler for as long as it may run. Its own TimeoutError is not taken for that."""
    limit = asyncio.timeout(claim.timeout_s)
    try:
        with judged(), no_exit():
            async with limit:
                return await handler
    except HandlerError as error:
        if limit.expired() and isinstance(error.__cause__, TimeoutError):
            raise LimitReached.by(exits.timeout(claim.timeout_s)) from error
        raise


def claim_request(task_id: UUID, epoch: int) -> ClaimRequest:
    node = current()
    pid = os.getpid()
    return ClaimRequest(task_id=task_id, epoch=epoch, attempt_id=uuid4(), worker=node.name, pid=pid)


def resolve(run: Run) -> tuple[agents.Handler, Context]:
    try:
        handler = agents.get(run.claim.agent).handler
    except agents.UnknownAgent as error:
        raise AgentError(str(error), code="unknown_agent") from error
    return handler, Context(run.claim, run.recorder, run.scratch)


def keep(run: Run, context: Context, result: Any) -> None:
    """What a handler returns is its artifact, or what it says last if it is a Message; it may return nothing.

    An agent that replies with messages returns one, or a text as one.
    """
    if agents.get(run.claim.agent).replies == agents.MESSAGE:
        _check_kind(result, (Message, str), "text or a Message")
        _say_last(run, context, result)
    elif isinstance(result, Message):
        _say_last(run, context, result)
    elif result is not None:
        _check_kind(result, (bytes, str, dict, list), "text, bytes, JSON, a Message or nothing")
        context.result(result)


def _say_last(run: Run, context: Context, message: str | Message) -> None:
    context.check()
    run.reply = agent_message(run.claim, sayable(message))


def _check_kind(result: Any, kinds: tuple[type, ...], wanted: str) -> None:
    if not isinstance(result, kinds):
        raise AgentError(f"the handler returned a {type(result).__name__}; return {wanted}", code="bad_result")


def heartbeat_timeout_s(claim: Claim) -> float | None:
    spec = agents.registered().get(claim.agent)
    return spec.heartbeat_timeout_s if spec else None


def child_index() -> int:
    """Which slot of the worker this child is, from 0; nobody else that runs has it, and who replaces it has it next."""
    return int(getattr(current_process(), "index", 0) or 0)
