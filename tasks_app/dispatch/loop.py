"""The dispatcher's loop: waits for a bell, admits, publishes. One is active, others stand by (D4)."""

from __future__ import annotations

import logging
import math
import threading
import time

from celery import Celery
from django.db import Error, connection

from tasks_app import engine, metrics, wakeups
from tasks_app.dispatch.heads import REMEMBER_S, Heads
from tasks_app.dispatch.plan import Plan, Rules
from tasks_app.dispatch.publisher import Publisher, PublishFailed
from tasks_app.dispatch.rules import View, look
from tasks_app.dispatch.window import Window
from tasks_app.engine import Hint
from tasks_app.engine.admit import GroupKey, Scene
from tasks_app.status import Lane, Priority
from tasks_app.wakeups import DISPATCH, LOOK, NEW, POLL_S, Ear, bell

log = logging.getLogger(__name__)

#: The session advisory lock that the active dispatcher holds ("a2a" and 1).
LOCK = (0x613261, 1)
STANDBY_S = 1.0
BATCH_MAX = 500
#: How many clients the dispatcher remembers to have served.
SERVED_MAX = 10_000
#: How often it looks whether what tasks need has ended, in seconds, while there are such.
RESOLVE_S = 0.1
RESOLVE_SHARE = 9
#: The shortest it sleeps until a task is due.
SHORTEST_S = 0.005
#: So long after a round began the next one begins at the earliest. What comes meanwhile goes together, also through the
#: broker and the workers' statements; what comes alone comes later than that, and waits for nothing.
PACE_S = 0.006


class Dispatcher:
    """One dispatcher process. :meth:`run` returns after :meth:`stop` was called, from a signal handler or a thread."""

    def __init__(self, app: Celery) -> None:
        self._publisher = Publisher(app)
        self._ear = Ear(DISPATCH)
        self._window = Window()
        self._heads = Heads()
        self._view = View(rules=Rules(), slots={})
        self._served: dict[int, float] = {}
        self._looked_at = 0.0
        self._due_at = 0.0
        #: When to look whether what tasks need has ended; a look around does in any case.
        self._resolve_at = math.inf
        self._began_at = 0.0
        #: The most urgent priority of what was submitted since the last round.
        self._newest: int = Priority.LOW
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._became_active():
                    log.info("dispatcher: active")
                    metrics.dispatching(True)
                    self._looked_at = 0.0
                    while not self._stop.is_set():
                        self.step()
                else:
                    self._stop.wait(STANDBY_S)
            except Error as error:
                metrics.dispatching(False)
                log.warning("dispatcher: the database is away, trying again: %s", error)
                connection.close()
                self._stop.wait(STANDBY_S)
        metrics.dispatching(False)
        self._ear.close()
        self._publisher.close()
        connection.close()

    def step(self) -> None:
        """One round: hears what happened, looks around when due, admits what there is room for."""
        self._stop.wait(max(0.0, self._began_at + PACE_S - time.monotonic()))
        self._hear()
        self._began_at = time.monotonic()
        looks = time.monotonic() - self._looked_at >= POLL_S
        if looks:
            self._look()
            self._sweep_if_late()
            self._keep_open()
            self._publish(engine.run(engine.republish))
        if looks or time.monotonic() >= self._resolve_at:
            self._resolve()
        if looks or self._window.is_open() or self._window.passes(self._newest):
            self._admit()

    def _hear(self) -> None:
        until = min(self._looked_at + POLL_S, self._due_at, self._resolve_at)
        for text in self._ear.wait(min(POLL_S, max(0.0, until - time.monotonic()))):
            lane, _, count = text.partition(":")
            if count.isdigit() and lane in Lane.values:
                self._window.freed(Lane(lane), int(count))
            elif lane == NEW:
                self._arrived(count)
            elif text == LOOK:
                self._looked_at = 0.0

    def _arrived(self, text: str) -> None:
        priority, _, group = text.partition(":")
        lane, _, rest = group.partition(":")
        client_id, _, agent = rest.partition(":")
        if not priority.isdigit():
            return
        self._newest = min(self._newest, int(priority))
        if client_id.isdigit() and agent:
            self._heads.changed(GroupKey(lane, int(priority), agent, int(client_id)))
        else:
            self._heads.forget()

    def _look(self) -> None:
        now = time.monotonic()
        before, self._view = self._view.rules, look()
        self._take_back(before, self._view.rules)
        self._heads.forget()
        self._window.resize(self._view.slots, elapsed_s=now - self._looked_at)
        self._looked_at = now

    def _take_back(self, before: Rules, now: Rules) -> None:
        """What was closed since the last look leaves the broker again; what runs goes on."""
        engine.run(
            engine.unadmit,
            agents=sorted(now.closed_agents - before.closed_agents),
            client_ids=sorted(now.closed_clients - before.closed_clients),
            queues=[(Lane(lane), Priority(level)) for lane, level in sorted(now.closed_queues - before.closed_queues)],
        )

    def _admit(self) -> None:
        rules = self._view.rules
        plans: list[Plan] = []

        def plan(scene: Scene) -> Plan:
            # The window's room is an estimate; what the scene counts is exact.
            self._window.counted(scene.in_flight, scene.admitted)
            room = {lane: min(count, BATCH_MAX) for lane, count in self._window.free().items()}
            plans.append(Plan(room, rules, scene, served=self._served))
            return plans[-1]

        known = self._heads.known()
        admission = engine.run(engine.admit, plan, known=known, rates=rules.rates, probing=sorted(rules.probing))
        self._heads.learn(admission.known, everything=known is None)
        self._served = plans[-1].served if len(plans[-1].served) < SERVED_MAX else {}
        self._window.counted(admission.in_flight, admission.admitted)
        self._newest = Priority.LOW
        # A full batch says that there is more to admit at once.
        full = len(admission.hints) >= BATCH_MAX
        wait_s = 0.0 if full else max(SHORTEST_S, admission.next_due_s or POLL_S)
        self._due_at = time.monotonic() + min(wait_s, POLL_S if known is None else REMEMBER_S)
        self._publish(admission.hints)

    def _resolve(self) -> None:
        """Lets what needed others, which have completed since, be admitted; fails what needed one that has not."""
        began_at = time.monotonic()
        resolved = engine.run(engine.resolve)
        now = time.monotonic()
        # Of very many it takes its share of the time, and no more.
        self._resolve_at = now + max(RESOLVE_S, RESOLVE_SHARE * (now - began_at)) if resolved.waits else math.inf
        for task in resolved.freed:
            self._heads.changed(GroupKey(task.lane, task.priority, task.agent, task.client_id))
            self._newest = min(self._newest, task.priority)
        metrics.moved(resolved.failed)
        bell.ring(wakeups.ended(resolved.failed))

    def _sweep_if_late(self) -> None:
        if engine.run(engine.sweep_is_late):
            sweep()

    def _keep_open(self) -> None:
        try:
            self._publisher.keep_open()
        except PublishFailed as error:
            log.warning("dispatcher: the broker is away: %s", error)

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


def sweep() -> list[engine.Moved]:
    """Ends what ran too long or lost its lease, if the sweep's record says that the clock can judge; what it moved."""
    if not engine.run(engine.tick):
        return []
    moved = [*engine.run(engine.rescue), *engine.run(engine.expire)]
    metrics.moved(moved)
    for task in moved:
        log.warning("%s lost its attempt and is %s", task.task_id, task.status)
    bell.ring(wakeups.moved(moved))
    return moved
