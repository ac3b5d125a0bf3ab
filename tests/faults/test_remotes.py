"""Agents elsewhere, while this system's workers die, while the remote dies, and this system itself as the remote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import executors
from tests.faults.processes import put_back
from tests.live import Live, wait_for
from tests.remotes import remotes

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


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


def remote_task(live: Live, task_id: str) -> Any:
    """The id of the task that stands for it at the remote."""
    rows = live.sql("SELECT data->>'task_id' FROM tasks_app_checkpoint WHERE task_id = %s AND name = 'remote'", task_id)
    return rows[0][0] if rows else ""


def answer(live: Live, task_id: str, text: str) -> None:
    reply: httpx.Response = live.http.post(
        f"/api/v1/tasks/{task_id}/messages/", json={"message": {"parts": [{"text": text}]}}
    )
    assert reply.status_code == 200, reply.text
