"""Celery's pool for the io lane: a job is a coroutine on the lane's event loop, and holds no thread (decision 10).

Celery's callbacks acknowledge messages and send events over its consumer's connection, which is not safe among threads:
they are called on the consumer's thread, where its transport has an event loop of its own.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Any

from celery.concurrency.base import BasePool

from tasks_app.dispatch.queues import queue_name
from tasks_app.prefix import prefixed
from tasks_app.status import Lane, Priority
from workers import node
from workers.io_trace import Outcome, lost, traced
from workers.loop import IoLoop


@dataclass(frozen=True, slots=True)
class _Job:
    """What Celery hands over for a message."""

    name: str
    id: str
    request: dict[str, Any]
    accepted: Callable[[int, float], None]
    ended: Callable[[Outcome], None]

    @property
    def queue(self) -> str:
        """The queue at the broker that it came from."""
        return str((self.request.get("delivery_info") or {}).get("routing_key"))


class TaskPool(BasePool):
    """Runs ``limit`` jobs at once; those beyond wait here, not acknowledged, and the most urgent starts first."""

    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._priorities = {prefixed(queue_name(lane, level)): level for lane in Lane for level in Priority}
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, _Job]] = []
        self._running = 0
        self._posted: deque[Callable[[], None]] = deque()
        self._news = threading.Event()
        self._wake_fd: int | None = None

    # On the consumer's thread ----------------------------------------------------------------------------------------

    def register_with_event_loop(self, loop: Any) -> None:
        """Celery calls it anew for every connection to the broker."""
        if self._wake_fd is None:
            self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        loop.add_reader(self._wake_fd, self._woken)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> None:
        """``target`` is Celery's tracer, which cannot wait for a coroutine: :func:`workers.io_trace.traced` can."""
        name, job_id, request = args[:3]
        job = _Job(name, job_id, request, accept_callback, callback)
        with self._lock:
            heappush(self._waiting, (self._priorities.get(job.queue, Priority.LOW), next(self._numbers), job))
        self._fill()

    def on_stop(self) -> None:
        """Returns when every job has ended; what waits is dropped, and published again from the database."""
        with self._lock:
            self._waiting.clear()
        while self._running:
            self._news.wait()
            self._news.clear()
            self._call_posted()

    def _fill(self) -> None:
        for job in iter(self._next, None):
            job.accepted(os.getpid(), time.monotonic())
            self._loop.call(self._start, job)

    def _next(self) -> _Job | None:
        """A job that may start now, counted as running."""
        with self._lock:
            if self._running >= self.limit or not self._waiting:
                return None
            self._running += 1
            return heappop(self._waiting)[2]

    def _ended(self, job: _Job, outcome: Outcome) -> None:
        with self._lock:
            self._running -= 1
        job.ended(outcome)
        self._fill()

    def _woken(self) -> None:
        assert self._wake_fd is not None  # noqa: S101 (narrows the type)
        os.eventfd_read(self._wake_fd)
        self._call_posted()

    def _call_posted(self) -> None:
        while self._posted:
            self._posted.popleft()()

    # On the event loop -----------------------------------------------------------------------------------------------

    @property
    def _loop(self) -> IoLoop:
        running = node.current().running
        assert isinstance(running, IoLoop)  # noqa: S101 (narrows the type)
        return running

    def _start(self, job: _Job) -> None:
        self._loop.spawn(self._run(job))

    async def _run(self, job: _Job) -> None:
        try:
            outcome = await traced(self.app.tasks[job.name], job.id, job.request)
        except BaseException as error:
            self._post(partial(self._ended, job, lost(error)))
            raise
        self._post(partial(self._ended, job, outcome))

    def _post(self, function: Callable[[], None]) -> None:
        """Has it called on the consumer's thread; at once, where that does not wait on an event loop of Celery's."""
        self._posted.append(function)
        if self._wake_fd is None:
            self._call_posted()
        else:
            os.eventfd_write(self._wake_fd, 1)
        self._news.set()

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc]  # its stubs lack it
        return {**info, "running": self._running, "waiting": len(self._waiting)}
