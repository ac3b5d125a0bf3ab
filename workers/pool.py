"""Celery's prefork pool, which also hands over what its children died of."""

from __future__ import annotations

from typing import Any

from billiard.pool import Pool as BilliardPool
from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

from workers import node

#: After a child has closed its files, it is looked for so many seconds later.
LOOK_AGAIN_S = (0.01, 0.05, 0.2, 1.0)


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
    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        """Called when a dying child has closed its files, which the kernel does a moment before it tells its status.

        Looking too early finds it alive, and Celery's own next look, before which nobody takes its place or what was
        already handed to it, is five seconds later.
        """
        super()._event_process_exit(hub, proc)  # type: ignore[misc]  # its stubs know little of it
        if proc in self._pool:  # type: ignore[attr-defined]
            for delay_s in LOOK_AGAIN_S:
                hub.call_later(delay_s, self.maintain_pool)


class _BlockingPool(_TellsExits, BilliardPool):
    pass


class TaskPool(prefork.TaskPool):
    """Prefork, as ``CELERY_WORKER_POOL`` names it."""

    Pool = _AsynPool
    BlockingPool = _BlockingPool
