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

from tasks_app import engine, metrics, wakeups
from tasks_app.engine import Lost
from tasks_app.models import Worker
from tasks_app.wakeups import DISPATCH, LOOK, Ear, bell, worker_channel
from workers import exits
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
        self._losses: dict[UUID, Lost] = {}
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
        """One beat: ends what was lost, extends the rest, stops what lost its lease."""
        running = self._node.running
        silent = running.silent()
        # While the worker shuts down it is to blame for processes that die, and hands back what they ran.
        lost = [] if running.is_draining() else running.lost()
        self._losses |= {item.attempt_id: item for item in [*lost, *map(exits.silence, silent)]}
        self._lose()
        live = running.live()
        for attempt_id in silent | self._fenced(live):
            running.stop(attempt_id)
        if time.monotonic() - self._announced_at >= settings.A2A_HEARTBEAT_S and running.is_well():
            self.announce()

    def _fenced(self, live: set[UUID]) -> set[UUID]:
        """Those of the running attempts that have lost their leases; extends the others when it is time."""
        if not live:
            return set()
        if time.monotonic() - self._extended_at < settings.A2A_HEARTBEAT_S:
            return engine.run(engine.fenced, list(live))
        held = engine.run(engine.extend, list(live))
        self._extended_at = time.monotonic()
        return live - held

    def _lose(self) -> None:
        """Puts lost attempts on record; what the database did not take is kept for the next beat."""
        if not self._losses:
            return
        for item in self._losses.values():
            log.warning("attempt %s is lost: %s", item.attempt_id, item.message)
        moved = engine.run(engine.lose, list(self._losses.values()))
        metrics.moved(moved)
        bell.ring(wakeups.moved(moved))
        self._losses.clear()

    def announce(self) -> None:
        """Writes the worker's row: what the dispatcher counts slots by."""
        node = self._node
        row = {"lane": node.lane, "hostname": node.hostname, "pid": node.pid, "slots": node.slots}
        row |= {"agents": node.agents, "memory_mb": node.capacity.memory_mb}
        row |= {"cores": node.capacity.cores, "disk_mb": node.capacity.disk_mb}
        # The database's clock: the dispatcher compares with it.
        row |= {"state": self._state, "heartbeat_at": Now()}
        defaults = {"defaults": row, "create_defaults": {**row, "started_at": Now()}}
        _, is_new = Worker.objects.update_or_create(name=node.name, **defaults)
        self._announced_at = time.monotonic()
        if is_new:
            bell.ring([(DISPATCH, LOOK)])  # what waits for a worker need not wait for the next look

    def retire(self, state: Worker.State) -> None:
        """Announces the new state at the next beat, within a second."""
        self._state = state
        self._announced_at = 0.0

    def end(self) -> None:
        """Stops the thread, after a last announcement."""
        self._ended.set()
