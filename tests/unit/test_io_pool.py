"""The io lane's pool: Celery's signals and callbacks around jobs that are coroutines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import signals
from kombu.asynchronous import Hub

from tasks_app.agents import AgentError, agent
from tasks_app.dispatch.queues import queue_name
from tasks_app.status import Lane, Priority
from tests.live import wait_for
from workers import io_pool, node
from workers.io_pool import TaskPool
from workers.loop import IoLoop
from workers.testing import one_process

Seen = list[tuple[str, str, str]]
#: The thread that each handler ran on.
ran_on: dict[str, str] = {}


@agent("pool-async", lane="io", description="Waits a little.")
async def waits(ctx: Any) -> None:
    await asyncio.sleep(0.05)
    ran_on["pool-async"] = threading.current_thread().name


@agent("pool-sync", lane="io", description="A plain function.")
def plain(ctx: Any) -> None:
    ran_on["pool-sync"] = threading.current_thread().name


@agent("pool-fails", lane="io", description="Fails as it means to.")
async def fails(ctx: Any) -> None:
    raise AgentError("as it means to", code="meant")


@agent("pool-waits", lane="io", description="Waits for a minute.")
async def waits_long(ctx: Any) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        ran_on["pool-waits"] = "cancelled"
        raise


@pytest.fixture
def seen() -> Iterator[Seen]:
    """(signal, the job it was sent for, the job that was current then), as other people's receivers see them."""
    told: Seen = []

    def note(signal: Any, sender: Any, **named: Any) -> None:
        current = sender.request.id
        told.append((signal.name, named.get("task_id", current), current))

    watched = (signals.task_prerun, signals.task_success, signals.task_failure, signals.task_postrun)
    for signal in watched:
        signal.connect(note, weak=False)
    yield told
    for signal in watched:
        signal.disconnect(note)


@pytest.mark.django_db(transaction=True)
def test_receivers_of_celerys_signals_see_the_job_they_are_called_for_though_jobs_run_at_once(seen: Seen) -> None:
    with one_process() as system:
        ids = [system.submit("pool-async") for _ in range(3)]
        for task_id in ids:
            system.ended(task_id)
    names = {task_id: [signal for signal, job, _ in seen if job == f"{task_id}:0"] for task_id in ids}
    assert all(job == current for _, job, current in seen)
    assert set(map(tuple, names.values())) == {("task_prerun", "task_success", "task_postrun")}


@pytest.mark.django_db(transaction=True)
def test_a_handler_that_fails_is_told_as_celery_tells_it(seen: Seen) -> None:
    with one_process() as system:
        task = system.run("pool-fails")
    assert (task["status"], task["error"]["code"]) == ("failed", "meant")
    assert [signal for signal, *_ in seen] == ["task_prerun", "task_failure", "task_postrun"]


@pytest.mark.django_db(transaction=True)
def test_coroutines_share_the_loop_and_a_plain_function_has_a_thread() -> None:
    with one_process() as system:
        ends = [system.run(name)["status"] for name in ("pool-async", "pool-sync")]
    assert ends == ["completed"] * 2
    assert ran_on["pool-async"] == "io-loop"
    assert ran_on["pool-sync"].startswith("handler")


@pytest.mark.django_db(transaction=True)
def test_a_coroutine_is_cancelled_at_its_timeout_and_not_only_by_the_sweep() -> None:
    with one_process() as system:
        task = system.ended(system.submit("pool-waits", timeout_s=0.2))
    assert (task["status"], task["error"]["code"]) == ("failed", "timeout")
    assert "did not stop" not in task["error"]["message"]
    assert ran_on["pool-waits"] == "cancelled"


class _Job:
    """What Celery's request is to the pool: where it is told, and on which thread."""

    def __init__(self, priority: Priority = Priority.NORMAL) -> None:
        self.request = {"delivery_info": {"routing_key": queue_name(Lane.IO, priority)}}
        self.accepted_on: list[int] = []
        self.ended_on: list[int] = []

    def apply(self, pool: TaskPool) -> None:
        pool.apply_async(
            print,
            args=("a2a.run_io", "id", self.request),
            accept_callback=lambda pid, at: self.accepted_on.append(threading.get_ident()),
            callback=lambda outcome: self.ended_on.append(threading.get_ident()),
        )


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Jobs run on a real event loop until it is opened."""
    opened, loop = threading.Event(), IoLoop()

    async def traced(*_: Any) -> tuple[int, Any, float]:
        while not opened.is_set():
            await asyncio.sleep(0.001)
        return 0, "done", 0.0

    class Here:
        running = loop

    monkeypatch.setattr(io_pool, "traced", traced)
    monkeypatch.setattr(node, "_current", Here)
    yield opened
    opened.set()
    loop.close()


@pytest.fixture
def pool() -> TaskPool:
    from a2a_project.celery import app

    return TaskPool(2, app=app)


def test_what_has_no_slot_is_not_acknowledged_and_starts_when_one_is_free(
    pool: TaskPool, gate: threading.Event
) -> None:
    jobs, hub = [_Job() for _ in range(3)], Hub()
    pool.register_with_event_loop(hub)
    for job in jobs:
        job.apply(pool)
    assert [len(job.accepted_on) for job in jobs] == [1, 1, 0]
    gate.set()
    deadline = time.monotonic() + 10
    while not all(job.ended_on for job in jobs):
        hub.run_once()
        assert time.monotonic() < deadline
    # All on the thread of the hub, which is the consumer's: its connection is not safe among threads.
    here = [threading.get_ident()]
    assert [(job.accepted_on, job.ended_on) for job in jobs] == [(here, here)] * 3
    hub.close()


def test_of_what_waits_for_a_slot_the_most_urgent_starts_first(pool: TaskPool, gate: threading.Event) -> None:
    order: list[int] = []
    levels = [Priority.NORMAL, Priority.NORMAL, Priority.LOW, Priority.HIGH, Priority.LOW, Priority.CRITICAL]
    for number, level in enumerate(levels):
        pool.apply_async(
            print,
            args=("a2a.run_io", "id", _Job(level).request),
            accept_callback=lambda pid, at, number=number: order.append(number),
            callback=lambda outcome: None,
        )
    gate.set()
    wait_for(lambda: len(order) == len(levels), timeout_s=10)
    assert order == [0, 1, 5, 3, 2, 4]
    pool.stop()


def test_a_pool_that_stops_waits_for_what_runs_and_drops_what_waits(pool: TaskPool, gate: threading.Event) -> None:
    jobs = [_Job() for _ in range(3)]
    for job in jobs:
        job.apply(pool)
    opener = threading.Timer(0.05, gate.set)
    opener.start()
    pool.stop()
    assert [len(job.ended_on) for job in jobs] == [1, 1, 0]
    assert jobs[2].accepted_on == []
