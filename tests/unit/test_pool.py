"""The prefork pool says what its children died of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency import get_implementation
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub

from a2a_project.celery import app
from tests.live import wait_for
from workers import node, pool


class Told:
    """What a pool says to the worker it belongs to."""

    def __init__(self) -> None:
        self.statuses: dict[int, Callable[[], int | None]] = {}
        self.dead: list[tuple[int, int | None, int]] = []

    def forked(self, pid: int, status: Callable[[], int | None]) -> None:
        self.statuses[pid] = status

    def reaped(self, pid: int) -> None:
        """Keeps the status, and how many children there were until then."""
        self.dead.append((pid, self.statuses[pid](), len(self.statuses)))


def test_a_pool_tells_of_a_dead_child_before_it_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setattr(node, "_current", SimpleNamespace(running=told))
    processes = pool._BlockingPool(1)
    try:
        [pid] = told.statuses
        assert told.statuses[pid]() is None
        processes.apply_async(os._exit, (7,))
        wait_for(lambda: len(told.statuses) == 2, timeout_s=20, what="another child")
        assert told.dead[0] == (pid, 7, 1)
        assert told.statuses[pid]() == 7
    finally:
        processes._cache.clear()  # type: ignore[attr-defined]  # what died with its child would be waited for
        processes.terminate()
        processes.join()


def test_a_child_that_is_not_quite_dead_when_its_files_are_closed_is_looked_for_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []
    child, hub = object(), Hub()
    processes: Any = object.__new__(pool._AsynPool)
    monkeypatch.setattr(AsynPool, "_event_process_exit", lambda *_: looks.append(0.0))
    processes.maintain_pool = lambda: looks.append(time.monotonic())
    processes._pool = []
    processes._event_process_exit(hub, child)
    assert (looks, len(hub.timer)) == ([0.0], 0)  # it was found dead at once
    processes._pool = [child]
    processes._event_process_exit(hub, child)
    began_at = time.monotonic()
    while len(looks) < 3:
        hub.run_once()
    assert looks[2] - began_at < 1
    hub.close()


def test_the_cpu_lane_runs_on_this_pool_and_no_other_lane_does() -> None:
    assert get_implementation(app.conf.worker_pool) is pool.TaskPool
    assert issubclass(pool.TaskPool.Pool, pool._TellsExits)
    assert not issubclass(get_implementation("threads"), pool.TaskPool)
