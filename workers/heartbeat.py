"""Leases and the Worker row: one thread per worker process, with a database connection of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from uuid import UUID

from django.conf import settings
from django.db import Error, connection
from django.db.models.functions import Now

from tasks_app import agents, engine, metrics
from tasks_app.engine import Lost
from tasks_app.models import Outcome, Worker
from tasks_app.wakeups import Ear, bell, rings, worker_channel
from workers.node import Node

log = logging.getLogger(__name__)


class Heartbeat(threading.Thread):
    """Extends all leases of the worker in one statement, every ``A2A_HEARTBEAT_S``.

    Each second, and when its bell rings, it looks for dead processes and for attempts to be stopped.
    """

    SHORT_S = 1.0

    def __init__(self, node: Node) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._node = node
        self._ear = Ear(worker_channel(node.name))
        self._ended = threading.Event()
        self._announced_at = 0.0
        self._extended_at = 0.0
        self._state = Worker.State.ONLINE

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self.beat()
            except Error as error:
                log.warning("heartbeat: the database is away: %s", error)
                connection.close()
            except Exception:
                # Without this thread the worker would go on to take tasks and lose every lease.
                log.exception("heartbeat: one beat failed")
            self._ear.wait(min(self.SHORT_S, settings.A2A_HEARTBEAT_S))
        with contextlib.suppress(Error):
            self.announce()
        self._ear.close()
        connection.close()

    def beat(self) -> None:
        """One beat: rescues what dead processes held, extends the rest, stops what lost its lease."""
        # While the worker shuts down it is to blame for them, and hands them back.
        dead = set() if self._node.running.is_draining() else self._node.running.dead()
        if dead:
            self._lose(list(dead))
        live = self._node.running.live()
        for attempt_id in self._lost(live):
            self._node.running.stop(attempt_id)
        if time.monotonic() - self._announced_at >= settings.A2A_HEARTBEAT_S and self._node.running.is_well():
            self.announce()

    def _lost(self, live: set[UUID]) -> set[UUID]:
        """Those of the running attempts that have lost their leases; extends the others when it is time."""
        if not live:
            return set()
        if time.monotonic() - self._extended_at < settings.A2A_HEARTBEAT_S:
            return engine.run(engine.fenced, list(live))
        held = engine.run(engine.extend, list(live))
        self._extended_at = time.monotonic()
        return live - held

    def _lose(self, attempt_ids: list[UUID]) -> None:
        """Takes the tasks of dead processes back; one that was killed for running too long has failed."""
        message = "the process that ran it died"
        lost = [
            Lost(attempt_id=attempt_id, outcome=Outcome.PROCESS_LOST, code="process_lost", message=message)
            for attempt_id in attempt_ids
        ]
        moved = engine.run(engine.lose, lost)
        metrics.moved(moved)
        for task in moved:
            log.warning("%s lost its process and is %s", task.task_id, task.status)
            bell.ring(rings(task.lane, [task.task_id], freed=1))

    def announce(self) -> None:
        """Writes the worker's row: what the dispatcher counts slots by."""
        node = self._node
        row = {"lane": node.lane, "hostname": node.hostname, "pid": node.pid, "slots": node.slots}
        row |= {"agents": sorted(agents.registered())}
        # The database's clock: the dispatcher compares with it.
        row |= {"state": self._state, "heartbeat_at": Now()}
        Worker.objects.update_or_create(name=node.name, defaults=row, create_defaults={**row, "started_at": Now()})
        self._announced_at = time.monotonic()

    def retire(self, state: Worker.State) -> None:
        """Announces the new state at the next beat, within a second."""
        self._state = state
        self._announced_at = 0.0

    def end(self) -> None:
        """Stops the thread, after a last announcement."""
        self._ended.set()
