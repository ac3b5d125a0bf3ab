"""What is counted where, on the engine's own results."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from prometheus_client import CollectorRegistry, generate_latest

from tasks_app import engine, metrics
from tasks_app.control import cancel, rerun
from tasks_app.dispatch.loop import sweep
from tasks_app.engine import Finish
from tasks_app.metrics import exposition, gauges, tally
from tasks_app.metrics.families import DURATION, DURATION_S, OTHER, bucket
from tasks_app.models import Client, Outcome, Task
from tasks_app.status import Lane, Priority, TaskStatus
from tests.factory import Factory, admit, completed, lost, new_task
from tests.live import wait_for
from tests.scrapes import Series, by_labels, parsed, scraped
from workers.recording import CpuRecorder

Counts = Callable[..., dict[tuple[str, ...], int]]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TASK = ("agent", "priority", "lane")
ATTEMPT = ("agent", "lane", "outcome")


def exported(*collectors: Any) -> dict[Series, float]:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return parsed(generate_latest(registry).decode())


@pytest.fixture(autouse=True)
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """What has been counted since the test began, under one name, by labels."""
    monkeypatch.setattr(tally, "_tally", None)
    return lambda name, *labels: by_labels([exported(exposition.TaskCounts())], name, *(labels or TASK))


# --- counters and histograms ---


@pytest.mark.django_db
def test_an_accepted_task_is_counted_once_whoever_repeats_it(owner: Client, counts: Counts) -> None:
    first = new_task(owner, agent="sleep", priority=Priority.HIGH)
    again = new_task(owner, agent="sleep", priority=Priority.HIGH, message_id=first.message_id, message=first.message)
    other = new_task(owner, agent="sleep", priority=Priority.LOW, message_id=first.message_id)
    for items in ([first, again], [again], [other]):
        metrics.created(items, engine.run(engine.create, items))
    assert counts("tasks_created_total") == {("sleep", "high", "io"): 1}


@pytest.mark.django_db
def test_a_task_whose_first_answer_was_lost_is_counted_when_the_second_comes(owner: Client, counts: Counts) -> None:
    item = new_task(owner)
    engine.run(engine.create, [item])
    metrics.created([item], engine.run(engine.create, [item]))
    assert counts("tasks_created_total") == {("echo", "normal", "io"): 1}


@pytest.mark.django_db
def test_agents_that_are_not_registered_are_one_label(owner: Client, counts: Counts) -> None:
    items = [new_task(owner, agent=name) for name in ("made-up", 'x"} evil 1\n', "echo")]
    metrics.created(items, engine.run(engine.create, items))
    assert counts("tasks_created_total", "agent") == {(OTHER,): 2, ("echo",): 1}


@pytest.mark.django_db
def test_a_finish_counts_its_attempt_its_task_and_the_time_since_the_first_start(
    factory: Factory, counts: Counts
) -> None:
    claim = factory.claimed(agent="sleep-cpu", lane=Lane.CPU, priority=Priority.CRITICAL)
    CpuRecorder(claim, told_to_stop=lambda: False, alive=lambda: None).finish(completed())
    task = Task.objects.get(id=claim.task_id)
    assert counts("tasks_completed_total") == {("sleep-cpu", "critical", "cpu"): 1}
    assert counts("task_attempts_total", *ATTEMPT) == {("sleep-cpu", "cpu", "completed"): 1}
    assert counts("task_duration_seconds_count") == {("sleep-cpu", "critical", "cpu"): 1}
    series = exported(exposition.TaskCounts())
    labels = (("agent", "sleep-cpu"), ("lane", "cpu"), ("priority", "critical"))
    assert task.completed_at is not None
    assert task.started_at is not None
    duration_s = (task.completed_at - task.started_at).total_seconds()
    assert series["task_duration_seconds_sum", labels] == pytest.approx(duration_s, abs=1e-6)


@pytest.mark.django_db
def test_a_finish_that_is_refused_and_a_record_that_ends_nothing_count_nothing(
    factory: Factory, counts: Counts
) -> None:
    claim = factory.claimed()
    recorder = CpuRecorder(claim, told_to_stop=lambda: False, alive=lambda: None)
    recorder.keep(engine.Note(progress=0.5))
    recorder.write_rest()
    assert engine.run(engine.request_cancel, [claim.task_id], by="a test")
    recorder.finish(completed())
    assert counts("tasks_completed_total") == counts("task_attempts_total", *ATTEMPT) == {}


@pytest.mark.django_db
def test_the_wait_of_a_task_is_from_when_it_might_run_to_its_first_start(factory: Factory, counts: Counts) -> None:
    claim = factory.claimed()
    metrics.claimed([claim, None])
    assert engine.run(engine.lose, [lost(claim.attempt_id)])
    Task.objects.update(run_after=claim.run_after)
    admit({Lane.IO: 10})
    metrics.claimed([factory.claim(claim.task_id)])
    assert counts("task_queue_seconds_count") == {("echo", "normal", "io"): 1}


@pytest.mark.django_db
def test_a_sweep_counts_the_attempts_it_ends_and_the_tasks_it_fails(factory: Factory, counts: Counts) -> None:
    engine.run(engine.tick)
    spent, left = (factory.admitted(max_attempts=number, agent="sleep") for number in (1, 2))
    for number, task_id in enumerate((spent, left)):
        factory.lose_lease(factory.claim(task_id, worker=f"worker-{number}"))
    late, never = factory.claimed(), factory.pending(agent="imaging", start_deadline_s=60)
    Task.objects.filter(id=late.task_id).update(timeout_at=LONG_AGO)
    Task.objects.filter(id=never).update(start_deadline_at=LONG_AGO)
    assert {task.task_id for task in sweep()} == {spent, left, late.task_id, never}
    assert counts("tasks_failed_total", "agent") == {("sleep",): 1, ("echo",): 1, ("imaging",): 1}
    assert counts("task_duration_seconds_count", "agent") == {("sleep",): 1, ("echo",): 1}
    assert counts("task_attempts_total", "agent", "outcome") == {
        ("sleep", "lease_expired"): 2,
        ("echo", "timed_out"): 1,
    }


@pytest.mark.django_db
def test_an_attempt_that_is_tried_again_is_counted_and_its_task_is_not(factory: Factory, counts: Counts) -> None:
    again = Finish(status=TaskStatus.PENDING, outcome=Outcome.RETRIED)
    CpuRecorder(factory.claimed(), told_to_stop=lambda: False, alive=lambda: None).finish(again)
    assert counts("task_attempts_total", *ATTEMPT) == {("echo", "io", "retried"): 1}
    assert counts("tasks_failed_total") == counts("task_duration_seconds_count") == {}


@pytest.mark.django_db
def test_a_task_that_its_clients_limit_refused_is_not_counted(owner: Client, counts: Counts) -> None:
    items = [new_task(owner, max_queued=1) for _ in range(3)]
    metrics.created(items, engine.run(engine.create_within, items))
    assert counts("tasks_created_total") == {("echo", "normal", "io"): 1}


@pytest.mark.django_db
def test_a_cancelled_task_is_counted_and_its_attempt_if_one_ran(factory: Factory, counts: Counts) -> None:
    ids = [factory.in_state(TaskStatus.PENDING), factory.in_state(TaskStatus.RUNNING)]
    cancel(ids, by="a test")
    cancel(ids, by="a test")
    assert counts("tasks_cancelled_total") == {("echo", "normal", "io"): 2}
    assert counts("task_attempts_total", *ATTEMPT) == {("echo", "io", "cancelled"): 1}
    assert counts("task_duration_seconds_count") == {("echo", "normal", "io"): 1}


def test_a_rerun_is_created_once(factory: Factory, counts: Counts) -> None:
    ended = factory.finished(priority=Priority.HIGH)
    assert len(rerun([ended, factory.pending()])) == 1
    assert counts("tasks_created_total") == {("echo", "high", "io"): 1}


def test_a_histogram_has_each_value_in_the_first_bucket_that_bounds_it(counts: Counts) -> None:
    assert [bucket(DURATION, seconds) for seconds in (0.0, 0.01, 0.011, 1e9)] == [0, 0, 1, len(DURATION_S)]
    here = tally.tally()
    for seconds in (-1.0, 0.01, 0.2, 100_000.0):
        here.add(here.observed(DURATION, "echo", 0, "io", seconds))
    cumulated = counts("task_duration_seconds_bucket", "le")
    assert [cumulated[le,] for le in ("0.01", "0.1", "0.25", "43200.0", "+Inf")] == [2, 2, 3, 3, 4]
    assert counts("task_duration_seconds_count", "agent") == {("echo",): 4}


# --- gauges ---


@pytest.fixture
def active() -> Any:
    metrics.dispatching(True)
    yield
    metrics.dispatching(False)


@pytest.mark.django_db
def test_the_active_dispatcher_says_how_many_tasks_wait_and_run(factory: Factory) -> None:
    factory.claimed(agent="sleep")
    factory.claimed(agent="gone")
    factory.admitted(priority=Priority.CRITICAL)
    factory.pending(priority=Priority.CRITICAL)
    factory.pending(lane=Lane.CPU, priority=Priority.LOW)
    factory.finished()
    now = [exported(Fixed(gauges.count()))]
    assert by_labels(now, "queue_size", "lane", "priority") == {("io", "critical"): 2, ("cpu", "low"): 1}
    assert by_labels(now, "active_tasks", "lane", "agent") == {("io", "sleep"): 1, ("io", OTHER): 1}
    zero = ("active_tasks", (("agent", "imaging"), ("lane", "cpu")))
    assert now[0][zero] == 0.0


class Fixed:
    def __init__(self, collected: list[Any]) -> None:
        self._collected = collected

    def collect(self) -> list[Any]:
        return self._collected


@pytest.mark.django_db(transaction=True)
def test_a_dispatcher_that_stands_by_exports_no_sizes_and_an_active_one_counts_at_most_every_few_seconds(
    factory: Factory,
) -> None:
    collector = gauges.DispatcherGauges()
    assert exported(collector) == {("dispatcher_active", ()): 0.0}
    metrics.dispatching(True)
    try:
        factory.pending()
        first = exported(collector)
        factory.pending()
        second = exported(collector)
    finally:
        metrics.dispatching(False)
    assert by_labels([first], "queue_size", "lane") == {("io",): 1}
    assert (first["dispatcher_active", ()], second) == (1.0, first)
    assert exported(collector) == {("dispatcher_active", ()): 0.0}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "index"), [(gauges.QUEUED, "task_client_pending_idx"), (gauges.RUNNING, "task_running_idx")]
)
def test_counting_reads_partial_indexes_and_no_ended_task(query: str, index: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {query}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    # Of a table with many pages, which earlier tests may leave, it is a bitmap scan.
    assert re.findall(r"(?:Scan using|Index Scan on) (\w+)", plan) == [index], plan
    assert "Seq Scan" not in plan


# --- exposition ---


def test_a_port_that_is_taken_is_had_once_it_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exposition, "RETRY_S", 0.05)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        exposition.serve(port)
        wait_for(lambda: "cannot be had" in caplog.text, timeout_s=10, what="it says that the port is taken")

    def answers() -> dict[Series, float] | None:
        try:
            return scraped(f"127.0.0.1:{port}")
        except OSError:
            return None

    assert ("process_cpu_seconds_total", ()) in wait_for(answers, timeout_s=10, what="the metrics are served")


def test_no_port_means_no_export() -> None:
    before = threads()
    exposition.serve(0)
    assert threads() == before


def threads() -> int:
    return sum(thread.name == "metrics" for thread in threading.enumerate())
