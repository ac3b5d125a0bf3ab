"""A worker that shuts down hands back what it runs, stops it, and is gone by a deadline (DESIGN 10, Leases).

No new claims; what ends by itself within the grace ends normally; the rest is made pending for other workers, and then
told to stop. ``workers/shutdown.py`` says when.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from uuid import UUID

from django.conf import settings
from django.db import Error, connection
from django.db.models import QuerySet
from kombu.asynchronous import get_event_loop

from tasks_app import engine, metrics, wakeups
from tasks_app.engine import Lost
from tasks_app.models import Outcome, TaskAttempt, Worker
from tasks_app.wakeups import DISPATCH, LOOK, bell
from workers.heartbeat import Heartbeat
from workers.node import Node

log = logging.getLogger(__name__)

#: Warm, from when the processes of handlers that did not stop are killed to the exit; cold, all of the time.
WARM_EXIT_S = 1.5
COLD_EXIT_S = 3.0
#: The exit itself waits this long for the database, which may be the one that hangs.
LAST_WORD_S = 1.0
TICK_S = 0.2
#: The exit code of a worker whose handlers did not stop.
EX_HANDLERS_LEFT = 1

WARM, COLD, STOPPED = "warm", "cold", "stopped"


class Leaving(threading.Thread):
    """Sleeps while the worker works; once asked, sees to it that the worker leaves. Has a connection of its own.

    Started with the worker: a signal handler, which asks it, must neither start threads nor wait for locks.
    """

    def __init__(self, node: Node, heartbeat: Heartbeat) -> None:
        super().__init__(name="leaving", daemon=True)
        self._node = node
        self._heartbeat = heartbeat
        self._asked: SimpleQueue[str] = SimpleQueue()

    def ask(self, how: str) -> None:
        """``WARM`` or ``COLD``; ``STOPPED`` once no handler runs any more. Safe in a signal handler."""
        self._asked.put(how)

    def run(self) -> None:
        how = self._asked.get()
        in_time = how == STOPPED or self._drain(how)
        if not in_time:
            log.warning("handlers did not stop in time, the worker exits without them")
            self._node.running.kill()
        self._try(self._hand_back_held)
        self._try(partial(self._release, died=not in_time))
        self._announce(Worker.State.OFFLINE)
        connection.close()
        self._node.scratch.remove()
        if not in_time:
            os._exit(EX_HANDLERS_LEFT)

    def _drain(self, how: str) -> bool:
        """Whether the pool has stopped before the deadline."""
        self._node.running.drain()
        _wake_main_loop()
        grace_s = settings.A2A_SHUTDOWN_GRACE_S if how == WARM else 0.0
        hand_back_at = time.monotonic() + grace_s
        exit_at = _exit_at(grace_s + (settings.A2A_STOP_GRACE_S + WARM_EXIT_S if how == WARM else COLD_EXIT_S))
        self._announce(Worker.State.DRAINING)
        while time.monotonic() < exit_at:
            self._try(self._hand_back_dead)
            if time.monotonic() >= hand_back_at:
                self._try(self._hand_back_held)
            try:
                news = self._asked.get(timeout=TICK_S)
            except Empty:
                continue
            if news == STOPPED:
                return True
            if news == COLD and how == WARM:
                how, hand_back_at, exit_at = COLD, 0.0, _exit_at(COLD_EXIT_S)
        return False

    def _hand_back_dead(self) -> None:
        """Whoever killed them, it was for the shutdown: a supervisor may signal a whole group of processes.

        But for a limit they were killed for that.
        """
        lost = self._node.running.lost()
        self._lose([item if item.final else _loss(item.attempt_id, released=True) for item in lost])

    def _hand_back_held(self) -> None:
        """By the worker's name, not by what its slots say: a claim may have been granted that is not seen there yet."""
        held = set(self._unreleased().filter(ended_at=None).values_list("pk", flat=True))
        self._lose([_loss(attempt_id, released=False) for attempt_id in held])
        for attempt_id in held:
            self._node.running.stop(attempt_id)

    def _lose(self, lost: list[Lost]) -> None:
        if not lost:
            return
        moved = engine.run(engine.lose, lost)
        metrics.moved(moved)
        for task in moved:
            log.info("%s is handed back and is %s", task.task_id, task.status)
        bell.ring(wakeups.moved(moved))

    def _release(self, *, died: bool) -> None:
        """Every handler has stopped, with its process at the latest: they ``died`` then."""
        engine.run(engine.release, list(self._unreleased().values_list("pk", flat=True)), died=died)

    def _unreleased(self) -> QuerySet[TaskAttempt]:
        return TaskAttempt.objects.filter(worker=self._node.name, released_at=None)

    def _announce(self, state: Worker.State) -> None:
        """At once, so that the dispatcher stops counting on this worker."""
        self._heartbeat.retire(state)
        self._try(self._heartbeat.announce)
        bell.ring([(DISPATCH, LOOK)])

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Error as error:
            log.warning("the database is away while the worker leaves: %s", error)
            connection.close()


def _loss(attempt_id: UUID, *, released: bool) -> Lost:
    return Lost(
        attempt_id=attempt_id,
        outcome=Outcome.HANDED_BACK,
        code="worker_shutdown",
        message="its worker was shut down",
        released=released,
        spend=False,
    )


def _exit_at(seconds: float) -> float:
    """A deadline, and behind it one that needs neither the database nor this thread."""
    last = threading.Timer(seconds + LAST_WORD_S, os._exit, [EX_HANDLERS_LEFT])
    last.daemon = True
    last.start()
    return time.monotonic() + seconds


def _wake_main_loop() -> None:
    """Celery looks for its shutdown flag once per turn; until then it would go on to take messages, for seconds."""
    hub = get_event_loop()
    if hub is not None:
        hub.call_soon(lambda: None)
