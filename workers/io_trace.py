"""What Celery's tracer does around a job, for a job that is a coroutine: the same signals, log lines and outcome.

Celery's own (``celery.app.trace.build_tracer``) calls a function and waits. Left out is what our jobs never have:
results, links, chains, retries of Celery's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery.app.task import Context
from celery.app.trace import LOG_SUCCESS, TraceInfo
from celery.exceptions import WorkerLostError

from tasks_app.dispatch.queues import parse_job_id
from workers import node
from workers.runner import Run

log = logging.getLogger("celery.app.trace")
#: As Celery's requests want it: failed or not, what came of it, seconds.
Outcome = tuple[int, Any, float]


async def traced(task: Any, job_id: str, request: dict[str, Any]) -> Outcome:
    """Runs a job: ``task_prerun`` (claims), the body, ``task_success`` or ``task_failure`` (finish)."""
    began = time.monotonic()
    named = parse_job_id(job_id)
    args = (str(named[0]), named[1]) if named else ()
    context = Context(request, args=args, called_directly=False, kwargs={})
    sent = {"sender": task, "task_id": job_id, "task": task, "args": args, "kwargs": {}}
    with _current(task, context):
        signals.task_prerun.send(**sent)
    result: Any = None
    state: str = states.SUCCESS
    try:
        result = await _body(context)
    except Exception as error:
        state = states.FAILURE
        with _current(task, context):
            result = TraceInfo(states.FAILURE, error).handle_failure(task, context, store_errors=False)
    else:
        runtime = time.monotonic() - began
        with _current(task, context):
            signals.task_success.send(sender=task, result=result, runtime=runtime)
        log.info(LOG_SUCCESS, {"id": job_id, "name": task.name, "runtime": runtime, "return_value": repr(result)})
    await _finished(context)
    with _current(task, context):
        signals.task_postrun.send(**sent, retval=result, state=state)
    return int(state == states.FAILURE), result, time.monotonic() - began


def lost(error: BaseException) -> Outcome:
    """The outcome of a job whose tracer itself was ended."""
    return 1, ExceptionInfo((WorkerLostError, WorkerLostError(repr(error)), error.__traceback__)), 0.0


@contextmanager
def _current(task: Any, context: Context) -> Iterator[None]:
    """Receivers see this request; never across an await, as all jobs of the loop share the stack."""
    task.request_stack.push(context)
    try:
        yield
    finally:
        task.request_stack.pop()


async def _body(context: Any) -> str:
    """The job (see ``workers/jobs.py``): awaits the claim that ``task_prerun`` asked for, and runs the handler."""
    claiming = getattr(context, "a2a_run", None)
    context.a2a_run = run = None if claiming is None else await _granted(claiming)
    if run is None:
        return "not claimed"
    try:
        await node.current().runner.execute(run)
    except Exception as error:
        run.error = error
        raise
    return "done"


async def _granted(claiming: Any) -> Run | None:
    """The run; none if the claim could not be asked for. What raises in a receiver of Celery's is logged as well."""
    try:
        run: Run | None = await claiming
    except Exception:
        log.exception("a claim failed; its task is published again")
        return None
    return run


async def _finished(context: Any) -> None:
    """Waits for the end that a receiver has begun to write."""
    run: Run | None = getattr(context, "a2a_run", None)
    if run is not None and run.ending is not None:
        try:
            await run.ending
        except Exception:
            log.exception("the end of %s could not be written; its lease will end it", run.claim.task_id)
