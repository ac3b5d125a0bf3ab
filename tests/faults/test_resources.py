"""Handlers that use more than they may, and processes that die: each ends as what it was, and no slot is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_handlers import both_slots_work, released
from tests.live import Live, wait_for

pytestmark = pytest.mark.services
MIB = 2**20


def attempts(live: Live, task_id: str) -> list[dict[str, Any]]:
    columns = "outcome", "error", "peak_rss_bytes", "cpu_s", "disk_bytes"
    query = f"SELECT {', '.join(columns)} FROM tasks_app_taskattempt WHERE task_id = %s ORDER BY number"  # noqa: S608
    return [dict(zip(columns, row, strict=True)) for row in live.sql(query, task_id)]


def test_what_an_attempt_used_is_on_record(live: Live) -> None:
    task = live.ended(live.submit("greedy", "modest"))
    assert task["status"] == "completed", task["error"]
    [attempt] = attempts(live, task["id"])
    assert 50 * MIB < attempt["peak_rss_bytes"] < 500 * MIB
    assert 0 < attempt["cpu_s"] < 1
    assert attempt["disk_bytes"] == MIB


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("memory", "out_of_memory"),
        ("memory-shared", "out_of_memory"),
        ("memory-in-a-process", "out_of_memory"),
        ("cpu", "cpu_limit"),
        ("cpu-in-a-process", "cpu_limit"),
        ("disk", "disk_limit"),
        ("disk-in-many-files", "disk_limit"),
    ],
)
def test_a_handler_over_its_limit_has_failed_with_its_name_and_its_slot_lives_on(
    live: Live, text: str, code: str
) -> None:
    task = live.ended(live.submit("greedy", text))
    assert (task["status"], task["error"]["code"], task["attempt"]) == ("failed", code, 1), task["error"]
    [attempt] = attempts(live, task["id"])
    assert attempt["outcome"] == code
    assert attempt["cpu_s"] is not None
    if code == "cpu_limit":
        assert 0.9 < attempt["cpu_s"] < 10
    if text in ("memory-shared", "memory-in-a-process"):
        assert attempt["peak_rss_bytes"] > 100 * MIB
    if code == "disk_limit":
        assert attempt["disk_bytes"] >= 4 * MIB
    both_slots_work(live)


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [("segfault", "segfault", "SIGSEGV"), ("sigkill", "process_lost", "SIGKILL"), ("exit", "process_lost", "code 7")],
)
def test_a_process_that_dies_is_told_by_what_it_died_of_and_its_task_runs_again(
    live: Live, text: str, code: str, named: str
) -> None:
    task = live.ended(live.submit("greedy", text))
    assert (task["status"], task["attempt"]) == ("failed", 2)
    for attempt in attempts(live, task["id"]):
        assert (attempt["outcome"], attempt["error"]["code"]) == ("process_lost", code), attempt
        assert named in attempt["error"]["message"]
    both_slots_work(live)


def test_what_a_handler_left_running_ends_with_it(live: Live) -> None:
    task = live.ended(live.submit("forks"))
    assert task["status"] == "completed", task["error"]
    pid = int(live.http.get(task["artifacts"][0]["content_url"]).text)
    assert not Path(f"/proc/{pid}").exists()
    both_slots_work(live)


def test_a_handler_that_comes_back_twice_ends_once(live: Live) -> None:
    task = live.ended(live.submit("forks", "twice"))
    assert (task["status"], task["attempt"], len(task["artifacts"])) == ("completed", 1, 1)
    both_slots_work(live)


def test_a_handler_may_print_megabytes(live: Live) -> None:
    assert live.ended(live.submit("prints"))["status"] == "completed"
    both_slots_work(live)


def test_a_handler_that_blocks_in_c_is_killed_after_its_timeout(live: Live) -> None:
    task_id = live.submit("blocks", timeout_s=1)
    pid = live.running(task_id)["attempts"][0]["pid"]
    task = live.ended(task_id)
    assert (task["status"], task["error"]["code"]) == ("failed", "timeout")
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), timeout_s=20, what="its process is killed")
    wait_for(lambda: released(live, task_id), timeout_s=20, what="its slot is free")
    assert [attempt["outcome"] for attempt in attempts(live, task_id)] == ["timed_out"]
    both_slots_work(live)


@pytest.mark.parametrize("agent", ["silent", "silent-io"])
def test_a_silent_handler_is_ended_and_its_task_runs_again(live: Live, agent: str) -> None:
    task = live.ended(live.submit(agent))
    assert (task["status"], task["attempt"]) == ("completed", 2)
    wait_for(lambda: released(live, task["id"]), timeout_s=20, what="its handler has stopped")
    first, second = attempts(live, task["id"])
    assert (first["outcome"], second["outcome"]) == ("heartbeat_lost", "completed")
    assert first["error"]["code"] == "heartbeat_lost"


def test_a_worker_announces_what_it_has(live: Live) -> None:
    rows = live.sql("SELECT lane, agents, memory_mb, cores, disk_mb FROM tasks_app_worker WHERE state = 'online'")
    assert {row[0] for row in rows} == {"cpu", "io"}
    for _, agents, memory_mb, cores, disk_mb in rows:
        assert {"echo", "greedy"} <= set(agents)
        assert agents == sorted(agents)
        assert memory_mb > 100
        assert disk_mb > 0
        assert cores == os.cpu_count()


def test_no_scratch_folder_outlives_its_attempt(live: Live) -> None:
    for text in ("modest", "disk", "disk-in-many-files"):
        live.ended(live.submit("greedy", text))
    both_slots_work(live)
    folders = list(live.scratch.glob("a2a-scratch-*"))
    assert folders
    wait_for(lambda: not [path for folder in folders for path in folder.glob("*")], what="all are empty")
