"""For tests of agents: dispatcher and worker in this process, over ``memory://``, on Django's database.

Both lanes run in threads, where nothing can be killed: a cpu agent has its timeout and limits only in a real worker.
Tasks must be committed for the threads to see them: in pytest, ``@pytest.mark.django_db(transaction=True)``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from celery import Celery, current_app
from celery.contrib.testing.worker import TestWorkController
from celery.worker import state
from django.test import Client, override_settings

from tasks_app.brokers.options import transport_options
from tasks_app.control import look
from tasks_app.dispatch.loop import Dispatcher
from tasks_app.dispatch.queues import JOB_NAMES, queue_names
from tasks_app.models import Worker
from tasks_app.status import AT_REST, Lane
from workers import node
from workers.heartbeat import Heartbeat
from workers.io_pool import TaskPool
from workers.io_runner import IoRunner
from workers.loop import IoLoop
from workers.resources import capacity
from workers.scratch import ScratchRoot

URL = "memory://"
STOP_S = 10.0
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class OneProcess:
    """What a test asks of the system that :func:`one_process` started."""

    def __init__(self) -> None:
        self._http = Client(SERVER_NAME="localhost")

    def run(self, agent: str, text: str = "", *, timeout_s: float = 30.0, **fields: Any) -> dict[str, Any]:
        """Submits a task and returns it, as REST gives it, once it has ended or waits for its client.

        Raises AssertionError after the time.
        ``fields`` are those of ``POST /api/v1/tasks/``: ``parameters``, ``priority``, …
        """
        return self.ended(self.submit(agent, text, **fields), timeout_s=timeout_s)

    def submit(self, agent: str, text: str = "", **fields: Any) -> str:
        """Submits a task and returns its id; see :meth:`run`."""
        body = {"agent": agent, "message": {"parts": [{"text": text}]}, **fields}
        reply = self._http.post("/api/v1/tasks/", body, content_type="application/json", secure=True)
        assert reply.status_code == 201, reply.content.decode()  # noqa: S101 (a test's)
        return str(reply.json()["id"])

    def answer(self, task_id: str, text: str, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Sends the task a further message of its client's and returns it once it has ended or waits for its client.

        Raises AssertionError if it takes none, or after the time.
        """
        body = {"message": {"parts": [{"text": text}]}}
        path = f"/api/v1/tasks/{task_id}/messages/"
        reply = self._http.post(path, body, content_type="application/json", secure=True)
        assert reply.status_code == 200, reply.content.decode()  # noqa: S101
        return self.ended(task_id, timeout_s=timeout_s)

    def cancel(self, task_id: str) -> None:
        """Cancels the task, as its client. Raises AssertionError if it had ended."""
        reply = self._http.post(f"/api/v1/tasks/{task_id}/cancel/", secure=True)
        assert reply.status_code == 200, reply.content.decode()  # noqa: S101

    def ended(self, task_id: str, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """The task, as REST gives it, once it has ended or waits for its client.

        Raises AssertionError after the time.
        """
        path, deadline = f"/api/v1/tasks/{task_id}/", time.monotonic() + timeout_s
        while True:
            task: dict[str, Any] = self._http.get(path, secure=True).json()
            if task["status"] in AT_REST:
                return task
            assert time.monotonic() < deadline, f"not ended after {timeout_s} s: {task}"  # noqa: S101
            time.sleep(0.02)


@contextmanager
def one_process(*, slots: int = 4) -> Iterator[OneProcess]:
    """Starts everything but the web; ``slots`` tasks of each lane run at once. One at a time in a process."""
    with ExitStack() as stack:
        stack.enter_context(override_settings(A2A_OPEN_MODE=True, A2A_CPU_METRICS_PORT=0, A2A_IO_METRICS_PORT=0))
        app = stack.enter_context(_on_memory())
        running, scratch = IoLoop(), ScratchRoot()
        runner = IoRunner(running, scratch, len(Lane) * slots)
        stack.callback(scratch.remove)
        stack.callback(running.close)
        stack.callback(runner.close)
        stack.enter_context(_worker(app, running, runner, scratch, slots))
        dispatcher = Dispatcher(app)
        thread = threading.Thread(target=dispatcher.run, name="dispatcher", daemon=True)
        thread.start()
        stack.callback(thread.join, STOP_S)
        stack.callback(look)
        stack.callback(dispatcher.stop)
        yield OneProcess()


@contextmanager
def _on_memory() -> Iterator[Celery]:
    """The app, on a broker in memory for a while."""
    app: Celery = current_app
    ours = {"broker_url": URL, "broker_transport_options": transport_options(URL, "")}
    before = {name: app.conf.get(name) for name in ours}
    app.conf.update(ours)
    try:
        yield app
    finally:
        app.conf.update(before)


@contextmanager
def _worker(app: Celery, running: IoLoop, runner: IoRunner, scratch: ScratchRoot, slots: int) -> Iterator[None]:
    """One Celery worker, which the dispatcher takes for one of each lane."""
    queues = [name for lane in Lane for name in queue_names(lane)]
    options = {"pool": TaskPool, "without_heartbeat": True, "without_mingle": True, "without_gossip": True}
    worker: Any = TestWorkController(app=app, concurrency=len(Lane) * slots, queues=queues, **options)
    has = capacity(scratch.path)
    nodes = [node.Node(f"{lane}-{worker.hostname}", lane, slots, running, runner, has, scratch) for lane in Lane]
    node.current().scratch.remove()
    node.set_current(nodes[0])  # in place of the one that worker_init made
    beats = [Heartbeat(each) for each in nodes]
    thread = threading.Thread(target=worker.start, name="worker", daemon=True)
    for each in (thread, *beats):
        each.start()
    try:
        worker.ensure_started()
        yield
    finally:
        state.should_stop = 0  # type: ignore[assignment]  # the exit code
        # It looks when it has received something, or every two seconds, and then waits for one thing more: here jobs
        # that have expired, and are dropped.
        for _ in range(2):
            app.send_task(JOB_NAMES[Lane.IO], (str(uuid4()), 0), queue=queues[0], expires=LONG_AGO)
        for beat in beats:
            beat.retire(Worker.State.OFFLINE)
            beat.end()
        for each in (thread, *beats):
            each.join(STOP_S)
        with app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            for name in queues:  # the broker lives on in this process: the next worker is not to find what is left
                channel.queue_purge(name)
        state.should_stop = None
        node.set_current(None)
