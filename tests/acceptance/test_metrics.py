"""The metrics of real processes: the sum over all scrape targets is what the rows say, by every label."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from stack.databases import database_name, fresh_database
from stack.ports import find_free
from tests.live import Live, wait_for
from tests.scrapes import Series, by_labels, scraped

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

TASK = ("agent", "priority", "lane")
NAMES = ("critical", "high", "normal", "low")
COUNTED = "SELECT agent, priority, lane, count(*) FROM tasks_app_task WHERE {} GROUP BY 1, 2, 3"
#: What each name must be the number of.
ROWS = {
    "tasks_created_total": "true",
    "tasks_completed_total": "status = 'completed'",
    "tasks_failed_total": "status = 'failed'",
    "tasks_cancelled_total": "status = 'cancelled'",
    "task_queue_seconds_count": "started_at IS NOT NULL",
    "task_duration_seconds_count": "started_at IS NOT NULL AND completed_at IS NOT NULL",
}
ATTEMPTS = """
SELECT task.agent, task.lane, attempt.outcome, count(*) FROM tasks_app_taskattempt attempt
JOIN tasks_app_task task ON task.id = attempt.task_id WHERE attempt.ended_at IS NOT NULL GROUP BY 1, 2, 3
"""


class Fleet:
    """Two webs (the second of two processes behind one port), two dispatchers, three workers and the system's."""

    def __init__(self, live: Live, extra: dict[str, int]) -> None:
        self.live = live
        self.targets = live.stack.targets() | {name: f"127.0.0.1:{port}" for name, port in extra.items()}
        del self.targets["flower"]
        self.webs = [live.http, httpx.Client(base_url=f"http://{self.targets['web-2']}", timeout=30)]
        self.all_answer()

    def all_answer(self) -> None:
        wait_for(self.scrapes, timeout_s=60, what="every target answers")

    def scrapes(self) -> dict[str, dict[Series, float]] | None:
        """Every target's samples by its name; None while one does not answer."""
        try:
            return {name: scraped(target) for name, target in self.targets.items()}
        except OSError:
            return None

    def differences(self) -> dict[str, Any]:
        """Where the sums over the targets are not what the rows say."""
        scrapes = (self.scrapes() or {}).values()
        found = {}
        for name, condition in ROWS.items():
            rows = {(row[0], NAMES[row[1]], row[2]): row[3] for row in self.live.sql(COUNTED.format(condition))}
            found[name] = (by_labels(scrapes, name, *TASK), rows)
        outcomes = {row[:3]: row[3] for row in self.live.sql(ATTEMPTS)}
        found["task_attempts_total"] = (by_labels(scrapes, "task_attempts_total", "agent", "lane", "outcome"), outcomes)
        return {name: pair for name, pair in found.items() if pair[0] != pair[1]}

    def agrees(self) -> None:
        """Returns once the sums are those of the rows: a number follows its row by microseconds, not at once."""
        seen: list[dict[str, Any]] = []

        def look() -> bool:
            seen[:] = [self.differences()]
            return not seen[0]

        try:
            wait_for(look, timeout_s=15)
        except AssertionError:
            raise AssertionError(f"targets and rows differ: {seen}") from None

    def send(self, web: int, agent: str, *, message_id: str = "", **fields: Any) -> str:
        """A new task by REST, at this web."""
        message = {"messageId": message_id or str(uuid4()), "parts": [{"text": "hello"}]}
        reply = self.webs[web].post("/api/v1/tasks/", json={"agent": agent, "message": message, **fields})
        assert reply.status_code in (200, 201), reply.text
        return str(reply.json()["id"])

    def send_a2a(self, web: int, agent: str, priority: str) -> str:
        """A new task by JSON-RPC, at this web."""
        metadata = {"urn:a2a-task-manager:task-options:v1": {"priority": priority}}
        message = {
            "messageId": str(uuid4()),
            "role": "ROLE_USER",
            "parts": [{"text": "hello"}],
            "metadata": metadata,
        }
        params = {"message": message, "configuration": {"returnImmediately": True}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
        return str(
            self.webs[web]
            .post(f"/a2a/{agent}/", json=call, headers={"A2A-Version": "1.0"})
            .json()["result"]["task"]["id"]
        )

    def cancel(self, web: int, task_id: str) -> None:
        assert self.webs[web].post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200


@pytest.fixture(scope="module")
def fleet(services: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("metrics")
    ports = {name: find_free() for name in ("web-2", "dispatcher-2", "worker-cpu-2")}
    queues = ",".join(f"a2a.cpu.{name}" for name in NAMES)
    extra = {
        "web-2": (
            f"env A2A_DB_POOL=1 TMPDIR={folder}"
            f" uvicorn a2a_project.asgi:application --workers 2 --port {ports['web-2']}"
        ),
        "dispatcher-2": f"env A2A_DISPATCHER_METRICS_PORT={ports['dispatcher-2']} python manage.py dispatcher",
        "worker-cpu-2": (
            f"env A2A_CPU_METRICS_PORT={ports['worker-cpu-2']} celery --skip-checks -A a2a_project worker -P prefork"
            f" -c 2 -Q {queues} -n cpu2-$$@%h --without-mingle --without-gossip -l INFO -E"
        ),
    }
    database_url = fresh_database(services["DATABASE_URL"], f"{database_name(services['DATABASE_URL'])}_metrics")
    # Queues of its own: the stack of other tests may still run, and would take its hints.
    env = {**services, "DATABASE_URL": database_url, "A2A_AGENTS": "tests.agents", "A2A_QUEUE_PREFIX": "metrics."}
    live = Live.started(folder, env, extra=extra, autorestart=False, embedded=False)
    try:
        yield Fleet(live, ports)
    finally:
        live.close()


def test_the_sum_over_all_targets_is_what_the_rows_say(fleet: Fleet) -> None:
    ids = []
    for number in range(24):
        web, priority = number % 2, NAMES[number % 4]
        quick = {"seconds": 0.02, "steps": 1}
        ids.append(fleet.send_a2a(web, "echo", priority))
        ids.append(fleet.send(web, "sleep", priority=priority, parameters=quick))
        ids.append(fleet.send(web, "sleep-cpu", priority=priority, parameters=quick))
        ids.append(fleet.send(web, ("unstorable", "unstorable-io")[web], priority=priority))
        repeated = str(uuid4())
        assert fleet.send(web, "echo", message_id=repeated) == fleet.send(1 - web, "echo", message_id=repeated)
    waiting = fleet.send(1, "echo", run_after="2100-01-01T00:00:00Z")
    running = fleet.send(0, "sleep", parameters={"seconds": 600, "steps": 100})
    fleet.live.running(running)
    for web, task_id in enumerate((waiting, running)):
        fleet.cancel(web, task_id)
    for task_id in [*ids, waiting, running]:
        fleet.live.ended(task_id)
    fleet.agrees()
    scrapes = fleet.scrapes()
    assert scrapes is not None
    workers = [by_labels([scrapes[name]], "tasks_completed_total", "agent") for name in ("worker-cpu", "worker-cpu-2")]
    assert all(each.get(("sleep-cpu",), 0) > 0 for each in workers), "both workers took part"
    assert by_labels([scrapes["web-2"]], "tasks_created_total", "agent")["echo",] > 0


def test_every_process_behind_one_port_answers_for_all_of_them(fleet: Fleet) -> None:
    target, tasks = fleet.targets["web-2"], "/api/v1/tasks/"
    name, status = "django_http_responses_total_by_status_total", ("201",)
    before = by_labels([scraped(target)], name, "status").get(status, 0)
    body = {"agent": "echo", "message": {"parts": [{"text": "hello"}]}}
    # Each over a connection of its own, which the kernel gives to either process.
    assert {httpx.post(f"http://{target}{tasks}", json=body).status_code for _ in range(40)} == {201}
    fleet.agrees()
    scrapes = [scraped(target) for _ in range(40)]
    assert len({sum(by_labels([each], "tasks_created_total", "agent").values()) for each in scrapes}) == 1
    assert {by_labels([each], name, "status")[status] for each in scrapes} == {before + 40}


def test_a_killed_and_replaced_child_takes_no_number_with_it(fleet: Fleet) -> None:
    before = fleet.scrapes()
    assert before is not None
    task_id = fleet.send(0, "sleep-cpu", parameters={"seconds": 2, "steps": 2})
    killed = fleet.live.running(task_id)["attempts"][0]["pid"]
    os.kill(killed, signal.SIGKILL)
    task = fleet.live.ended(task_id)
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["process_lost", "completed"]
    ids = [fleet.send(0, "sleep-cpu", parameters={"seconds": 0.05, "steps": 1}) for _ in range(12)]
    pids = {attempt["pid"] for each in ids for attempt in fleet.live.ended(each)["attempts"]}
    assert killed not in pids
    fleet.agrees()
    after = fleet.scrapes()
    assert after is not None
    for name, samples in before.items():
        for series, value in samples.items():
            if series[0].startswith(("tasks_", "task_")):
                assert after[name][series] >= value, (name, series)


def test_sizes_come_from_the_one_active_dispatcher_and_from_the_next_when_it_dies(fleet: Fleet) -> None:
    waiting = [fleet.send(0, "echo", priority="low", run_after="2100-01-01T00:00:00Z") for _ in range(5)]
    running = fleet.send(0, "sleep", parameters={"seconds": 600, "steps": 100})
    fleet.live.running(running)

    def sizes() -> list[Any]:
        scrapes = [scraped(target) for name, target in fleet.targets.items()]
        exporters = [each["dispatcher_active", ()] for each in scrapes if ("dispatcher_active", ()) in each]
        queued = by_labels(scrapes, "queue_size", "lane", "priority")
        return [sum(exporters), queued, by_labels(scrapes, "active_tasks", "lane", "agent")]

    expected = [1.0, {("io", "low"): len(waiting)}, {("io", "sleep"): 1}]
    wait_for(lambda: sizes() == expected, timeout_s=20, what="one dispatcher says what the rows say")
    standing_by = [name for name in ("dispatcher", "dispatcher-2") if not is_active(fleet, name)]
    assert len(standing_by) == 1
    (active,) = {"dispatcher", "dispatcher-2"} - set(standing_by)
    fleet.live.stack.kill(active)
    target = fleet.targets.pop(active)
    wait_for(lambda: sizes() == expected, timeout_s=20, what="the other one takes over")
    fleet.targets[active] = target
    fleet.live.stack.start_process(active)
    fleet.all_answer()
    wait_for(lambda: sizes() == expected, timeout_s=20, what="the one that came back stands by")
    for task_id in [*waiting, running]:
        fleet.cancel(0, task_id)


def is_active(fleet: Fleet, name: str) -> bool:
    return scraped(fleet.targets[name])["dispatcher_active", ()] == 1.0
