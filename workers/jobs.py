"""Celery tasks; here a *job*, since a *task* is A2A's. Each is a few lines: the work is in runner and engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import shared_task
from django.db import Error, connection

from artifacts_app import collector
from tasks_app import engine, quota, retention
from tasks_app.agents import AgentError, Snooze, TurnEnd
from tasks_app.dispatch.loop import sweep
from tasks_app.dispatch.queues import JOB_NAMES
from tasks_app.schedules import declared
from tasks_app.schedules.fire import fire_due
from tasks_app.status import Lane
from workers import node
from workers.context import LeaseLost
from workers.runner import Run

#: Ends that are no fault of the code: Celery logs them without a traceback.
EXPECTED = (AgentError, Snooze, TurnEnd, LeaseLost)
#: Set by ``signals.drain``: this worker shuts down, and a job that would go on ends soon.
leaving = threading.Event()


@shared_task(name=JOB_NAMES[Lane.CPU], bind=True, throws=EXPECTED)
def run_cpu(job: Any, task_id: str, epoch: int) -> str:
    """Runs the handler, if this job was granted the claim (``signals.claim`` left it on the request)."""
    run: Run | None = getattr(job.request, "a2a_run", None)
    if run is None:
        return "not claimed"
    try:
        node.current().runner.execute(run)
    except Exception as error:
        run.error = error  # Celery hands its signals a copy, or another exception where this one cannot be pickled
        raise
    return "done"


@shared_task(name=JOB_NAMES[Lane.IO], throws=EXPECTED)
def run_io(task_id: str, epoch: int) -> str:
    """Never called: the io lane's pool runs its job as a coroutine, by ``workers/io_trace.py``."""
    raise RuntimeError("this job runs on workers.io_pool, which a worker of the io lane's queues has by itself")


@shared_task(name="a2a.rescue")
def rescue() -> int:
    """Beat's sweep over leases and deadlines; how many tasks it moved."""
    with _reconnecting():
        return len(sweep())


@shared_task(name="a2a.prune")
def prune() -> int:
    """Beat's sweep over what ended long ago, contents that nothing names, and quotas; how many tasks it deleted."""
    with _reconnecting():
        try:
            return retention.prune()
        finally:
            collector.collect()
            quota.count()


@shared_task(name="a2a.push")
def push() -> int:
    """Beat's sweep over batches, of which some are complete, and notifications; how many configs had their turn."""
    from workers.push import deliver  # only worker-system sends: the others do without its libraries

    with _reconnecting():
        engine.run(engine.settle)
        return deliver(leaving)


@shared_task(name="a2a.fire")
def fire() -> int:
    """Beat's sweep over schedules; how many it fired."""
    with _reconnecting():
        declared.put_once()
        return fire_due(leaving=leaving)


@shared_task(name="a2a.cancel-remotes")
def cancel_remotes() -> int:
    """Beat's sweep over what was cancelled while nothing of it ran here, but may elsewhere; of how many tasks."""
    from workers.adapters import leftovers  # only worker-system needs the SDK's client for it

    with _reconnecting():
        return leftovers.cancel()


@contextmanager
def _reconnecting() -> Iterator[None]:
    """After an error of the database the next job opens a new connection."""
    try:
        yield
    except Error:
        connection.close()
        raise
