"""Celery's signals call the engine's verbs: they drive the status of a task.

``task_prerun`` claims and leaves the run on the job's request; without a claim the body does nothing. The end signals
finish. Several ends fire no signal at all, and a receiver that raises is only logged, so no receiver is the last
resort: leases and the sweep close every gap.
"""

from __future__ import annotations

import logging
import os
from typing import Any
from uuid import UUID

from billiard.process import current_process
from celery.signals import (
    task_failure,
    task_prerun,
    task_revoked,
    task_success,
    worker_init,
    worker_process_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from django.conf import settings
from django.db import connections

from tasks_app import garbage, metrics
from tasks_app.dispatch.queues import JOB_NAMES, lanes_of, parse_job_id
from tasks_app.metrics import exposition
from tasks_app.status import Lane
from tasks_app.wakeups import bell, worker_channel
from workers import jobs, node, procs, resources, runner, scratch, shutdown
from workers.context import LeaseLost
from workers.heartbeat import Heartbeat
from workers.io_runner import IoRunner
from workers.loop import IoLoop
from workers.remote_control import canceller
from workers.slots import SlotTable
from workers.watch import Watch

log = logging.getLogger(__name__)
_JOBS = set(JOB_NAMES.values())
IO_POOL = "workers.io_pool:TaskPool"
#: A pool may be made larger while it runs, by remote control.
CHILDREN_PER_SLOT = 4


@worker_init.connect
def make_node(sender: Any, **_: Any) -> None:
    """In the parent, before the pool forks: what the lane needs in this process."""
    lanes = lanes_of(sender.app.amqp.queues.consume_from)
    if not lanes:
        return
    lane = lanes[0]
    scratch.remove_stale()
    root = scratch.ScratchRoot()
    running: Watch | IoLoop
    if lane is Lane.CPU:
        table = SlotTable()
        running = Watch(table, root, on_loss=lambda: bell.ring([(worker_channel(sender.hostname), "")]))
        metrics.share_with_children(CHILDREN_PER_SLOT * sender.concurrency)
        lane_runner: runner.LaneRunner = runner.CpuRunner(table, root)
    else:
        running = IoLoop()
        lane_runner = IoRunner(running, root, sender.concurrency)
        sender.pool_cls = IO_POOL  # whatever -P says
    sender.app.steps["worker"].add(shutdown.ShutdownStep)
    node.set_current(
        node.Node(
            name=sender.hostname,
            lane=lane,
            slots=sender.concurrency,
            running=running,
            runner=lane_runner,
            capacity=resources.capacity(root.path),
            scratch=root,
        )
    )
    garbage.settle()


@worker_process_init.connect
def forget_what_was_forked(**_: Any) -> None:
    """In a child: it shares none of its parent's connections, and keeps what its handlers start.

    It ends with its parent, which is Celery's doing: it would work on unseen, and then wait for ever for jobs.
    """
    procs.adopt_orphans()
    # A coroutine in the cpu lane has the process for itself: it may wait for the database as a function would.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    bell.reset()
    connections.close_all()
    metrics.become_child(runner.child_index())
    log.debug("child %s ready", current_process().pid)


@worker_ready.connect
def announce(**_: Any) -> None:
    here = node.current_or_none()
    exposition.serve(_metrics_port(here))
    if here is not None:
        here.running.start()
        heartbeat = Heartbeat(here)
        heartbeat.start()
        shutdown.watch(here, heartbeat)


def _metrics_port(here: node.Node | None) -> int:
    if here is None:
        return int(settings.A2A_SYSTEM_METRICS_PORT)
    return int(settings.A2A_CPU_METRICS_PORT if here.lane is Lane.CPU else settings.A2A_IO_METRICS_PORT)


@worker_shutting_down.connect
def drain(how: str, **_: Any) -> None:
    jobs.leaving.set()
    shutdown.begin(how)


@worker_shutdown.connect
def leave(**_: Any) -> None:
    shutdown.end()


@task_prerun.connect
def claim(sender: Any, task: Any, args: Any, **_: Any) -> None:
    """A worker that shuts down claims nothing: the hint is published again, and another takes it.

    In the io lane what is left on the request is the claim under way, which the job awaits.
    """
    if task.name in _JOBS and not node.current().running.is_draining():
        task.request.a2a_run = node.current().runner.claim(UUID(args[0]), int(args[1]))


@task_success.connect
def complete(sender: Any, **_: Any) -> None:
    run = getattr(sender.request, "a2a_run", None)
    if run is not None:
        node.current().runner.finish(run, runner.completed(run))


@task_failure.connect
def fail(sender: Any, exception: BaseException, **_: Any) -> None:
    """In the child that ran it. In the parent (a hard limit, a lost process) there is no run: the heartbeat rescues."""
    run = getattr(sender.request, "a2a_run", None)
    if run is None:
        return
    error = run.error or exception
    if isinstance(error, LeaseLost):
        log.info("%s", error)
    node.current().runner.finish(run, runner.finish_of(run, error))


@task_revoked.connect
def cancel(request: Any, expired: bool, **_: Any) -> None:
    """Celery discarded a job without being asked by ``remote_control``, which serves Flower: its task is cancelled too.

    Not if its message had expired: that is a lost hint.
    """
    named = parse_job_id(request.id)
    if named is not None and not expired:
        canceller().cancel({named[0]})
