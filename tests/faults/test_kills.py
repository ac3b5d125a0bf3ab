"""kill -9 of every process in the middle of a batch of real images; then it is started again (DESIGN 9.3, 9.4, 9.8).

The batch is the demo's own. Whatever dies: every task completes once, and every attempt beyond the first has the cause
of its forerunner's end on record.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from examples.imaging.batch import Batch, planned
from examples.imaging.inputs import studies
from stack import Services
from tests.live import TIMES, Live, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

IMAGES = 60
CAUSES = {"lease_expired", "process_lost"}


class Load:
    """Some images by mixed priorities, and some longer tasks in both lanes, all under way."""

    def __init__(self, live: Live) -> None:
        self.live = live
        decodable = [study for study in studies() if study.decodes]
        self.batch = Batch(live.http, planned(decodable, IMAGES))
        self.batch.submit()
        sleeps = [
            live.submit(agent, priority=priority, parameters={"seconds": 1.0, "steps": 5})
            for agent, count in (("sleep-cpu", 6), ("sleep", 12))
            for priority in ("low", "critical")
            for _ in range(count // 2)
        ]
        self.ids = [sent.id for sent in self.batch.plan] + sleeps

    def under_way(self) -> None:
        """Returns in the middle: some are done, some run, some wait."""

        def middle() -> bool:
            counts = self.live.statuses(self.ids)
            return counts["completed"] >= 5 and counts["running"] >= 1 and counts["pending"] >= 5

        wait_for(middle, timeout_s=60, what="the batch is under way")

    def completes(self) -> None:
        wait_for(
            lambda: self.live.statuses(self.ids)["completed"] == len(self.ids),
            timeout_s=120,
            what="every task completes",
        )
        self.is_well_recorded()

    def is_well_recorded(self) -> None:
        """Attempts 1..n with a cause for each end; generations 1..n; each artifact once; no slot left taken."""
        attempts = self.live.sql(
            "SELECT task_id, number, outcome, error ->> 'code', released_at IS NOT NULL FROM tasks_app_taskattempt"
            " WHERE task_id = ANY(%s::uuid[]) ORDER BY task_id, number",
            self.ids,
        )
        by_task: dict[str, list[tuple[int, str, str, bool]]] = {}
        for task_id, *rest in attempts:
            by_task.setdefault(str(task_id), []).append(tuple(rest))
        assert set(by_task) == set(self.ids)
        for ends in by_task.values():
            assert [number for number, *_ in ends] == list(range(1, len(ends) + 1))
            assert ends[-1][1] == "completed"
            assert all(outcome in CAUSES and code == outcome for _, outcome, code, _ in ends[:-1])
            assert all(released for *_, released in ends)
        gaps = self.live.sql(
            "SELECT task.id FROM tasks_app_task task JOIN tasks_app_taskevent event ON event.task_id = task.id"
            " WHERE task.id = ANY(%s::uuid[]) GROUP BY task.id, task.generation"
            " HAVING count(*) <> task.generation OR max(event.generation) <> task.generation",
            self.ids,
        )
        assert gaps == []

    def extra_attempts(self) -> list[str]:
        rows = self.live.sql(
            "SELECT outcome FROM tasks_app_taskattempt WHERE task_id = ANY(%s::uuid[]) AND outcome <> 'completed'",
            self.ids,
        )
        return [row[0] for row in rows]


@pytest.fixture
def load(live: Live) -> Iterator[Load]:
    made = Load(live)
    yield made
    put_back(live)


def put_back(live: Live) -> None:
    """Starts what a test left dead."""
    for process in live.stack.app_processes():
        if process.state not in ("RUNNING", "STARTING"):
            live.stack.start_process(process.name)
    wait_for(lambda: live.online_workers() >= {"cpu", "io"}, what="both lanes have a worker again")


@pytest.mark.parametrize("name", ["dispatcher", "beat", "web"])
def test_killing_a_process_that_holds_no_attempt_costs_no_attempt(live: Live, load: Load, name: str) -> None:
    load.under_way()
    live.stack.kill(name)
    live.stack.start_process(name)
    load.completes()
    assert load.extra_attempts() == []


@pytest.mark.parametrize("name", ["worker-cpu", "worker-io"])
def test_the_tasks_of_a_killed_worker_run_again_with_the_cause_on_record(live: Live, load: Load, name: str) -> None:
    load.under_way()
    lane = name.removeprefix("worker-")
    wait_for(lambda: running_in(live, load, lane), what=f"the {lane} lane works")
    live.stack.kill(name)
    live.stack.start_process(name)
    load.completes()
    extra = load.extra_attempts()
    assert extra
    assert set(extra) == {"lease_expired"}


def running_in(live: Live, load: Load, lane: str) -> list[tuple[object, ...]]:
    query = "SELECT id FROM tasks_app_task WHERE status = 'running' AND lane = %s AND id = ANY(%s::uuid[])"
    return live.sql(query, lane, load.ids)


def test_a_killed_child_is_noticed_at_once_and_its_task_runs_again(live: Live) -> None:
    task_id = live.submit("sleep-cpu", parameters={"seconds": 2, "steps": 2})
    live.running(task_id)
    pid = live.task(task_id)["attempts"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    task = live.ended(task_id)
    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["process_lost", "completed"]
    noticed = live.sql(
        "SELECT extract(epoch FROM ended_at - claimed_at) FROM tasks_app_taskattempt WHERE task_id = %s AND number = 1",
        task_id,
    )
    assert float(noticed[0][0]) < float(TIMES["A2A_LEASE_S"])
    put_back(live)


def test_a_handler_that_kills_its_process_every_time_ends_as_failed(live: Live) -> None:
    task_id = live.submit("sleep-cpu", parameters={"seconds": 30, "steps": 30})
    killed: set[int] = set()

    def kill_next() -> bool:
        task = live.task(task_id)
        if task["status"] == "failed":
            return True
        pids = {attempt["pid"] for attempt in task["attempts"] if attempt["ended_at"] is None} - killed
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        return False

    wait_for(kill_next, timeout_s=90, what="the attempts are spent")
    task = live.task(task_id)
    assert (task["attempt"], task["error"]["code"]) == (task["max_attempts"], "attempts_exhausted")
    assert live.ended(live.submit("sleep-cpu", parameters={"seconds": 0.1}))["status"] == "completed"


def test_with_dispatcher_beat_and_system_worker_dead_leases_are_still_rescued_by_the_next_dispatcher(
    live: Live, load: Load
) -> None:
    load.under_way()
    for name in ("beat", "worker-system", "worker-cpu", "dispatcher"):
        live.stack.kill(name)
    live.stack.start_process("dispatcher")
    live.stack.start_process("worker-cpu")
    load.completes()


def test_with_every_process_dead_starting_them_again_finishes_every_task(live: Live, load: Load) -> None:
    load.under_way()
    names = [process.name for process in live.stack.app_processes()]
    for name in names:
        live.stack.kill(name)
    for name in names:
        live.stack.start_process(name)
    load.completes()


@pytest.fixture
def service(services: dict[str, str]) -> Callable[[str], None]:
    """Kills a service and starts it again."""
    running = Services(env={})

    def bounce(name: str) -> None:
        running.kill(name)
        running.start_process(name)
        running.wait_ready(name)

    return bounce


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
def test_killing_the_broker_or_the_doorbell_loses_nothing(
    live: Live, load: Load, service: Callable[[str], None], name: str
) -> None:
    load.under_way()
    service(name)
    load.completes()


def test_purging_the_queues_loses_nothing(live: Live, load: Load, services: dict[str, str]) -> None:
    from kombu import Connection

    load.under_way()
    with Connection(services["A2A_BROKER_URL"]) as connection:
        channel: Any = connection.default_channel
        for priority in ("critical", "high", "normal", "low"):
            channel.queue_purge(f"a2a.cpu.{priority}")
    load.completes()
