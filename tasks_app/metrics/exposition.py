"""How the metrics are read: over HTTP, on a port of its own for every process that counts."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from functools import cache

from django.conf import settings
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from tasks_app.metrics.gauges import DispatcherGauges
from tasks_app.metrics.tally import tally

log = logging.getLogger(__name__)

#: A port that is taken is tried again this often: the process before this one may still be ending.
RETRY_S = 5.0


class TaskCounts:
    """Collects what this process's tally holds."""

    def describe(self) -> list[Metric]:
        """None ahead: what is registered now may not be all agents yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        return tally().collect()


@cache
def registry() -> CollectorRegistry:
    """What this process exports: the tasks' metrics, and those that libraries register with the Prometheus client.

    Where several web processes share a port, each answers for all of them, so theirs are in files as well.
    """
    made = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        made = CollectorRegistry()
        MultiProcessCollector(made)  # type: ignore[no-untyped-call]
    made.register(TaskCounts())
    return made


def serve(port: int, *, dispatcher: bool = False) -> None:
    """Exports the metrics on this port of ``A2A_METRICS_HOST``, from a thread; 0 is off. A dispatcher has gauges too.

    A port that is taken costs nothing but the export: it is tried again until it is free.
    """
    if dispatcher:
        registry().register(DispatcherGauges())
    if port:
        threading.Thread(target=_serve, args=[port], name="metrics", daemon=True).start()


def _serve(port: int) -> None:
    told = False
    while True:
        try:
            start_http_server(port, addr=settings.A2A_METRICS_HOST, registry=registry())
        except OSError as error:
            if not told:
                log.warning("metrics: port %d cannot be had, trying again until it can: %s", port, error)
            told = True
            time.sleep(RETRY_S)
        else:
            log.info("metrics: at http://%s:%d/metrics", settings.A2A_METRICS_HOST, port)
            return
