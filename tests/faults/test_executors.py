"""Executors of the a2a-sdk in workers that are killed, and in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import executors
from tests.faults.processes import put_back
from tests.live import Live, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


def test_an_executor_whose_worker_was_killed_runs_again_and_leaves_nothing_twice(live: Live, tmp_path: Path) -> None:
    """Its artifact has an id that is drawn at random in each run."""
    there = tmp_path / "there"
    task_id = live.submit("executor-slow", str(there))
    wait_for(lambda: live.task(task_id)["artifacts"], what="its first artifact is recorded")
    live.stack.kill("worker-io")
    put_back(live)
    wait_for(lambda: executors.notes(there).count("began") == 2, what="it runs again")
    there.touch()
    task = live.ended(task_id)
    assert (task["status"], len(task["artifacts"])) == ("completed", 1)
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["lease_expired", "completed"]


@pytest.mark.parametrize("name", ["executor-slow-cpu", "executor-stubborn-cpu"])
def test_in_the_cpu_lane_an_executor_is_cancelled_too(live: Live, tmp_path: Path, name: str) -> None:
    """What ignores it loses its process, as any handler there."""
    there = tmp_path / "there"
    task_id = live.submit(name, str(there))
    wait_for(lambda: executors.notes(there), what="it began")
    assert live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200
    released = "SELECT 1 FROM tasks_app_taskattempt WHERE task_id = %s AND released_at IS NOT NULL"
    wait_for(lambda: live.sql(released, task_id), timeout_s=20, what="its slot is free")
    expected = ["began", "cancel", "interrupted"] if name == "executor-slow-cpu" else ["began", "cancel"]
    assert executors.notes(there) == expected
    there.touch()
    again = live.ended(live.submit("executor-slow-cpu", str(there)))
    assert again["error"] is None
