"""What operators look at: each lane, queue and agent with what waits and runs, read by the partial indexes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from tasks_app import control, overview
from tasks_app.control import Scope
from tasks_app.models import Breaker, Client, Task, Worker
from tasks_app.status import Lane, Priority
from tests.factory import Factory


def lines() -> dict[str, overview.Line]:
    return {line.name: line for line in overview.queues()}


def test_all_there_are_are_listed_though_nothing_waits(db: None) -> None:
    found = lines()
    assert {"cpu", "io", "a2a.cpu.critical", "a2a.io.low", "echo", "imaging"} <= set(found)
    assert all(
        (line.waiting, line.dispatched, line.running, line.oldest_s) == (0, 0, 0, None) for line in found.values()
    )


def test_each_task_counts_in_its_lane_its_queue_and_its_agent(factory: Factory) -> None:
    other = Factory(Client.objects.create(name="other"))
    factory.finished()
    factory.claimed(agent="sleep")
    factory.admitted(priority=Priority.HIGH)
    for own in (factory, other):
        own.pending()
    factory.pending(run_after=timezone.now() + timedelta(hours=1))
    factory.pending(lane=Lane.CPU, agent="imaging", priority=Priority.LOW)
    found = lines()

    def counts(name: str) -> tuple[int, int, int, int]:
        line = found[name]
        return line.waiting, line.later, line.dispatched, line.running

    assert counts("io") == (3, 1, 1, 1)
    assert counts("cpu") == (1, 0, 0, 0)
    assert counts("a2a.io.normal") == (3, 1, 0, 1)
    assert counts("a2a.io.high") == (0, 0, 1, 0)
    assert counts("a2a.cpu.low") == counts("imaging") == (1, 0, 0, 0)
    assert counts("echo") == (3, 1, 1, 0)
    assert counts("sleep") == (0, 0, 0, 1)


def test_the_oldest_that_is_due_tells_how_long_it_has_waited(factory: Factory) -> None:
    factory.pending(agent="sleep", run_after=timezone.now() + timedelta(hours=1))
    task_id = factory.pending()
    Task.objects.filter(id=task_id).update(run_after=timezone.now() - timedelta(seconds=90))
    factory.pending(priority=Priority.HIGH)
    found = lines()
    assert 90 <= (found["io"].oldest_s or 0) < 120
    assert 90 <= (found["echo"].oldest_s or 0) < 120
    assert (found["a2a.io.high"].oldest_s or 0) < 30
    assert found["sleep"].oldest_s is None


def test_no_more_are_counted_than_are_shown(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "COUNT_MAX", 2)
    for _ in range(4):
        factory.pending()
    assert (lines()["echo"].waiting, lines()["echo"].more) == (2, True)


def test_pauses_limits_breakers_and_agents_that_are_gone_show(factory: Factory) -> None:
    factory.pending(agent="gone")
    control.pause(Scope.AGENT, "echo")
    control.pause(Scope.LANE, "cpu")
    control.limit(Scope.AGENT, "sleep", max_running=4, dispatch_rate_per_s=0.5)
    Breaker.objects.create(agent="imaging", state="open", changed_at=timezone.now())
    found = lines()
    assert found["echo"].paused_at is not None
    assert (found["sleep"].max_running, found["sleep"].dispatch_rate_per_s, found["sleep"].is_set) == (4, 0.5, True)
    assert found["imaging"].breaker == "open"
    assert {line.name for line in found.values() if line.is_lane_paused} == {
        f"a2a.cpu.{priority}" for priority in Priority.labels
    }
    assert (found["gone"].is_known, found["gone"].waiting) == (False, 1)


def test_only_what_waits_and_what_runs_is_read(factory: Factory) -> None:
    for _ in range(30):
        factory.finished()
        factory.pending()
    plans = []
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_task, tasks_app_taskattempt")
        for sql in (overview.WAITING, overview.FLYING):
            cursor.execute(f"EXPLAIN {sql}", {"limit": 5})
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
    used = re.findall(r"Scan using (\w+)|Index Scan on (\w+)|(Seq) Scan", "\n".join(plans))
    names = {name for found in used for name in found if name}
    # Which of them the planner takes is its own affair; the last is for the tasks of the attempts that run.
    of_the_open = {"task_dispatch_idx", "task_client_pending_idx", "task_republish_idx", "attempt_unreleased_idx"}
    assert names <= {*of_the_open, "tasks_app_task_pkey"}
    assert {"task_dispatch_idx", "attempt_unreleased_idx"} <= names


def test_a_worker_shows_what_it_runs_and_whether_it_is_heard_of(factory: Factory) -> None:
    now = timezone.now()
    late = now - timedelta(seconds=4 * settings.A2A_HEARTBEAT_S)
    common: dict[str, Any] = {"lane": "io", "hostname": "h", "pid": 1, "slots": 8, "started_at": late}
    for name, state, heartbeat_at in (
        ("worker-1", "online", now),
        ("worker-2", "online", late),
        ("worker-3", "offline", late),
    ):
        Worker.objects.create(name=name, state=state, heartbeat_at=heartbeat_at, **common)
    factory.claimed()
    found = [(line.worker.name, line.state, line.running) for line in overview.workers()]
    assert found == [("worker-1", "online", 1), ("worker-2", "silent", 0)]
    assert [line.worker.name for line in overview.workers(gone=True)][2:] == ["worker-3"]
