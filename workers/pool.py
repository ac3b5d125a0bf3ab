"""Celery's prefork pool, which also hands over what its children died of."""

from __future__ import annotations

from typing import Any

from billiard.pool import Pool as BilliardPool
from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

from workers import node


class _TellsExits:
    """The pool reaps its children in many places and passes their status on only as text (``WorkerLostError``), late,
    and only for jobs whose result is still awaited. So it is asked for the status, and says when a child is gone."""

    def _create_worker_process(self, i: int) -> Any:
        worker = super()._create_worker_process(i)  # type: ignore[misc]
        here = node.current_or_none()
        if here is not None:
            here.running.forked(worker.pid, lambda: worker.exitcode)
        return worker

    def process_flush_queues(self, worker: Any) -> None:
        """Called for each child that was reaped, before another takes its index."""
        here = node.current_or_none()
        if here is not None:
            here.running.reaped(worker.pid)
        super().process_flush_queues(worker)  # type: ignore[misc]


class _AsynPool(_TellsExits, AsynPool):
    pass


class _BlockingPool(_TellsExits, BilliardPool):
    pass


class TaskPool(prefork.TaskPool):
    """Prefork, as ``CELERY_WORKER_POOL`` names it."""

    Pool = _AsynPool
    BlockingPool = _BlockingPool
