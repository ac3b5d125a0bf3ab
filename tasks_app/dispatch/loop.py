"""The dispatcher's loop: waits for a bell, admits, publishes. One is active, others stand by (D4)."""

from __future__ import annotations

import logging
import threading
import time

from celery import Celery
from django.conf import settings
from django.db import Error, connection

from tasks_app import engine
from tasks_app.dispatch.publisher import Publisher, PublishFailed
from tasks_app.dispatch.window import Window
from tasks_app.engine import Hint
from tasks_app.models import Worker
from tasks_app.status import Lane
from tasks_app.wakeups import DISPATCH, POLL_S, Ear, bell, rings

log = logging.getLogger(__name__)

#: The session advisory lock that the active dispatcher holds ("a2a" and 1).
LOCK = (0x613261, 1)
STANDBY_S = 1.0
BATCH_MAX = 500


class Dispatcher:
    """One dispatcher process. :meth:`run` returns after :meth:`stop` was called, from a signal handler or a thread."""

    def __init__(self, app: Celery) -> None:
        self._publisher = Publisher(app)
        self._ear = Ear(DISPATCH)
        self._window = Window()
        self._counted_at = 0.0
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._became_active():
                    log.info("dispatcher: active")
                    self._counted_at = 0.0
                    while not self._stop.is_set():
                        self.step()
                else:
                    self._stop.wait(STANDBY_S)
            except Error as error:
                log.warning("dispatcher: the database is away, trying again: %s", error)
                connection.close()
                self._stop.wait(STANDBY_S)
        self._ear.close()
        self._publisher.close()
        connection.close()

    def step(self) -> None:
        """One round: hears what happened, recounts when due, admits what there is room for."""
        self._hear()
        if time.monotonic() - self._counted_at >= POLL_S:
            self._recount()
            self._sweep_if_late()
            self._publish(engine.run(engine.republish))
        room = self._window.room()
        if not room:
            return
        hints = engine.run(engine.admit, {lane: min(count, BATCH_MAX) for lane, count in room.items()})
        for hint in hints:
            self._window.admitted(hint.lane, 1)
        self._publish(hints)

    def _hear(self) -> None:
        wait_s = min(POLL_S, max(0.0, self._counted_at + POLL_S - time.monotonic()))
        for text in self._ear.wait(wait_s):
            lane, _, count = text.partition(":")
            if count.isdigit() and lane in Lane.values:
                self._window.freed(Lane(lane), int(count))

    def _recount(self) -> None:
        now = time.monotonic()
        self._window.recount(
            slots=_live_slots(),
            outstanding=engine.run(engine.outstanding),
            elapsed_s=now - self._counted_at,
        )
        self._counted_at = now

    def _sweep_if_late(self) -> None:
        if engine.run(engine.sweep_is_late):
            sweep()

    def _publish(self, hints: list[Hint]) -> None:
        if not hints:
            return
        try:
            self._publisher.publish(hints)
        except PublishFailed as error:
            log.warning("dispatcher: the broker is away, %d hints wait: %s", len(hints), error)
            engine.run(engine.unpublished, [hint.task_id for hint in hints])

    def _became_active(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK)
            return bool(cursor.fetchone()[0])


def sweep() -> list[engine.Rescued]:
    """Ends what ran too long or lost its lease, if the sweep's record says that the clock can judge; what it moved."""
    if not engine.run(engine.tick):
        return []
    moved = [*engine.run(engine.rescue), *engine.run(engine.expire)]
    for task in moved:
        log.warning("%s lost its attempt and is %s", task.task_id, task.status)
        bell.ring(rings(task.lane, [task.task_id], freed=1))
    return moved


def _live_slots() -> dict[Lane, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT lane, sum(slots) FROM tasks_app_worker WHERE state = %s"
            " AND heartbeat_at > now() - %s * interval '1 second' GROUP BY lane",
            [Worker.State.ONLINE, 3 * settings.A2A_HEARTBEAT_S],
        )
        return {Lane(lane): int(slots) for lane, slots in cursor.fetchall()}
