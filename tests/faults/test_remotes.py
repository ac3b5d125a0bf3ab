"""Agents elsewhere, while this system's workers die, while the remote dies, and this system itself as the remote."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import executors
from tests.faults.processes import put_back
from tests.live import Live, wait_for
from tests.remotes import remotes

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

#: An agent of ``tests/agents.py``, and how long its breaker stays open.
LOADED, OPEN_S = "remote-loaded", 2.0
#: When an agent's breaker is open and nothing of what was let through before is left: what begins later is a probe.
STILL = """
SELECT now() FROM tasks_app_breaker WHERE agent = %s AND state = 'open' AND NOT EXISTS (
    SELECT 1 FROM tasks_app_task WHERE agent = %s AND (status = 'running' OR admitted_at IS NOT NULL))
"""


def contents(live: Live, task_id: str) -> dict[str, str]:
    """The texts of a task's artifacts, by name, in pieces as they are."""
    query = """
        SELECT artifact.name, string_agg(convert_from(chunk.content, 'UTF8'), '|' ORDER BY chunk.generation, position)
        FROM artifacts_app_artifact artifact JOIN artifacts_app_artifactchunk chunk ON chunk.artifact_id = artifact.id
        WHERE artifact.task_id = %s
          AND chunk.generation >= COALESCE(artifact.first_generation, artifact.generation)
        GROUP BY artifact.id
    """
    return dict(live.sql(query, task_id))


def test_what_a_remote_does_goes_on_while_our_worker_dies_and_is_not_done_twice(live: Live, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with remotes(live.remote_port, tmp_path / "log"):
        task_id = live.submit("remote-slow", str(there))
        wait_for(lambda: live.task(task_id)["artifacts"], what="its first artifact is relayed")
        live.stack.kill("worker-io")
        put_back(live)
        wait_for(lambda: live.task(task_id)["attempt"] == 2, what="another attempt goes on")
        there.touch()
        task = live.ended(task_id)
    assert executors.notes(there) == ["began"]
    assert (task["status"], contents(live, task_id)) == ("completed", {"lines": "line\n"})
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["lease_expired", "completed"]


def test_a_worker_that_is_stopped_for_a_deploy_cancels_nothing_at_the_remote(live: Live, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with remotes(live.remote_port, tmp_path / "log"):
        task_id = live.submit("remote-slow", str(there))
        wait_for(lambda: live.task(task_id)["artifacts"], what="its first artifact is relayed")
        live.stack.stop_process("worker-io")
        put_back(live)
        wait_for(lambda: live.task(task_id)["attempt"] == 2, what="another attempt goes on")
        there.touch()
        task = live.ended(task_id)
    assert executors.notes(there) == ["began"]
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["handed_back", "completed"]
    assert (task["status"], task["spent"]) == ("completed", 1)


def test_while_a_remote_is_down_its_breaker_opens_and_tasks_wait_and_then_all_complete(
    live: Live, tmp_path: Path
) -> None:
    ids = [live.submit("remote-broken") for _ in range(12)]

    def reasons() -> set[str]:
        return {reason["code"] for task_id in ids for reason in live.task(task_id)["waiting_for"]}

    wait_for(lambda: any("breaker" in code for code in reasons()), what="the breaker is open")
    with remotes(live.remote_port, tmp_path / "log"):
        tasks = [live.ended(task_id, timeout_s=120) for task_id in ids]
    assert {task["status"] for task in tasks} == {"completed"}
    assert sum(task["attempt"] for task in tasks) < 12 * 10


def test_a_remote_that_is_killed_under_load_opens_its_breaker_and_once_it_is_back_every_task_completes(
    live: Live, tmp_path: Path
) -> None:
    """When it dies some have completed, eight run there, others are queued, and more come while it is down."""
    ready, gate = tmp_path / "ready", tmp_path / "gate"
    ready.touch()
    with remotes(live.remote_port, tmp_path / "log") as there:
        ids = [live.submit(LOADED, str(file)) for file in [ready] * 8 + [gate] * 24]
        wait_for(lambda: executors.notes(gate).count("began") == 8, what="as many run there as may")
        there.kill()
        wait_for(lambda: breaker(live, LOADED)[0] == "open", what="its breaker is open")
        ids += [live.submit(LOADED, str(gate)) for _ in range(8)]
        wait_for(lambda: all(waits_for_the_breaker(live, each) for each in ids[8:]), what="all that are left wait")
        still = wait_for(lambda: live.sql(STILL, LOADED, LOADED), what="none is on its way any more")[0][0]
        wait_for(lambda: breaker(live, LOADED)[1] == "the probe ended: retried", what="a probe finds nobody there")
        there.start()
        gate.touch()
        tasks = [live.ended(task_id) for task_id in ids]
    assert {(task["status"], task["attempts"][-1]["outcome"]) for task in tasks} == {("completed", "completed")}
    failures = [attempt for task in tasks for attempt in task["attempts"][:-1]]
    causes = {(failure["outcome"], failure["error"]["code"]) for failure in failures}
    assert causes == {("retried", "remote_unavailable")}
    claims = sorted(datetime.fromisoformat(failure["claimed_at"]) for failure in failures)
    probes = [claimed_at for claimed_at in claims if claimed_at > still]
    assert probes
    assert min(between(probes), default=OPEN_S) >= OPEN_S, (still, probes)
    wait_for(lambda: breaker(live, LOADED)[0] == "closed", what="its breaker is closed")


def test_this_system_is_a_remote_agent_as_any_other(live: Live) -> None:
    """Parameters go through, progress and artifacts come back, a cancel is passed on."""
    task = live.ended(live.submit("itself-sleep", parameters={"seconds": 1, "steps": 4}))
    assert (task["status"], task["error"]) == ("completed", None)
    assert contents(live, task["id"]) == {"result": "slept 1 s"}
    query = "SELECT DISTINCT progress FROM tasks_app_taskevent WHERE task_id = %s"
    assert {0.25, 0.5, 0.75, 1.0} <= {row[0] for row in live.sql(query, task["id"])}

    task_id = live.submit("itself-sleep", parameters={"seconds": 60, "steps": 60})
    remote = wait_for(lambda: remote_task(live, task_id), what="the remote has the task")
    live.running(remote)
    assert live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200
    assert live.ended(remote)["status"] == "cancelled"


def test_a_conversation_with_this_system_as_the_remote(live: Live) -> None:
    task_id = live.submit("itself-asks", "zero")

    def asked(turn: int) -> bool:
        task = live.task(task_id)
        return task["status"] == "input_required" and len(task["messages"]) == 2 * turn

    for turn, text in enumerate(["one", "two"], 1):
        wait_for(lambda turn=turn: asked(turn), what=f"question {turn}")  # type: ignore[misc]
        answer(live, task_id, text)
    task = live.ended(task_id)
    assert (task["status"], task["error"]) == ("completed", None)
    said = [message["parts"][0]["text"] for message in task["messages"]]
    assert said == ["zero", "question 1", "one", "question 2", "two", "thank you"]
    assert contents(live, task_id) == {"heard": "zero\n|one\n|two\n"}
    assert len({attempt["outcome"] for attempt in task["attempts"]}) == 2


def test_what_is_cancelled_between_its_turns_is_cancelled_at_the_remote_too(live: Live) -> None:
    """By worker-system, which beat triggers: no handler runs then."""
    task_id = live.submit("itself-asks", "zero")
    wait_for(lambda: live.task(task_id)["status"] == "input_required", what="it asks")
    remote = remote_task(live, task_id)
    assert live.task(remote)["status"] == "input_required"
    assert live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200
    assert live.ended(remote)["status"] == "cancelled"


def between(instants: list[datetime]) -> list[float]:
    """The seconds from each to the next."""
    return [(later - earlier).total_seconds() for earlier, later in pairwise(instants)]


def breaker(live: Live, agent: str) -> tuple[str, str]:
    """The state of an agent's circuit breaker, and why it is in it."""
    rows = live.sql("SELECT state, reason FROM tasks_app_breaker WHERE agent = %s", agent)
    return (rows[0][0], rows[0][1]) if rows else ("", "")


def waits_for_the_breaker(live: Live, task_id: str) -> bool:
    task = live.task(task_id)
    assert task["status"] in ("pending", "running"), task
    return "breaker_open" in {reason["code"] for reason in task["waiting_for"]}


def remote_task(live: Live, task_id: str) -> Any:
    """The id of the task that stands for it at the remote."""
    rows = live.sql("SELECT data->>'task_id' FROM tasks_app_checkpoint WHERE task_id = %s AND name = 'remote'", task_id)
    return rows[0][0] if rows else ""


def answer(live: Live, task_id: str, text: str) -> None:
    reply: httpx.Response = live.http.post(
        f"/api/v1/tasks/{task_id}/messages/", json={"message": {"parts": [{"text": text}]}}
    )
    assert reply.status_code == 200, reply.text
