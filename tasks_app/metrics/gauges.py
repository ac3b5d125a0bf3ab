"""How many tasks wait and run, from PostgreSQL: exported by the active dispatcher only, so that targets can be summed.

Counted when somebody scrapes, on the scrape's own thread and connection: the dispatcher's loop never waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator

from django.db import Error, connection, transaction
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from tasks_app import agents
from tasks_app.metrics.families import OTHER
from tasks_app.status import Lane, Priority

log = logging.getLogger(__name__)

#: Scrapes that come sooner get the same numbers again.
REFRESH_S = 3.0
TIMEOUT_MS = 5_000

# By task_client_pending_idx: below 0.1 s for 100,000 that wait, however many have ended.
QUEUED = "SELECT lane, priority, count(*) FROM tasks_app_task WHERE status = 'pending' GROUP BY lane, priority"
# By task_running_idx: no more rows than there are slots.
RUNNING = "SELECT lane, agent, count(*) FROM tasks_app_task WHERE status = 'running' GROUP BY lane, agent"

_is_dispatching = False


def dispatching(is_so: bool) -> None:
    """Whether this process is the active dispatcher. The dispatcher's loop says so."""
    global _is_dispatching
    _is_dispatching = is_so


class DispatcherGauges:
    """Collects ``dispatcher_active``, and while it is active ``queue_size`` and ``active_tasks``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted_at = float("-inf")
        self._counted: list[Metric] = []

    def describe(self) -> list[Metric]:
        """None ahead: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        active = GaugeMetricFamily("dispatcher_active", "1 while this dispatcher is the active one, else 0.")
        active.add_metric([], float(_is_dispatching))
        yield active
        if _is_dispatching:
            yield from self._fresh()

    def _fresh(self) -> list[Metric]:
        with self._lock:
            if time.monotonic() - self._counted_at >= REFRESH_S:
                try:
                    self._counted = count()
                except Error as error:
                    log.warning("metrics: the tasks could not be counted: %s", error)
                    self._counted = []
                finally:
                    connection.close()
                self._counted_at = time.monotonic()
            return self._counted


def count() -> list[Metric]:
    """The gauges of now. What is empty is 0, not absent. Raises Django's database errors."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
        cursor.execute(QUEUED)
        queued = {(lane, priority): number for lane, priority, number in cursor.fetchall()}
        cursor.execute(RUNNING)
        running = cursor.fetchall()
    queue_size = GaugeMetricFamily("queue_size", "Tasks that are pending.", labels=["lane", "priority"])
    for lane in Lane:
        for priority in Priority:
            queue_size.add_metric([lane.value, priority.label], queued.get((lane.value, priority.value), 0))
    return [queue_size, _active(running)]


def _active(running: list[tuple[str, str, int]]) -> Metric:
    known = agents.registered()
    counts: Counter[tuple[str, str]] = Counter({(spec.lane.value, spec.name): 0 for spec in known.values()})
    for lane, agent, number in running:
        counts[lane, agent if agent in known else OTHER] += number
    active_tasks = GaugeMetricFamily("active_tasks", "Tasks that run now.", labels=["lane", "agent"])
    for labels, number in sorted(counts.items()):
        active_tasks.add_metric(labels, number)
    return active_tasks
