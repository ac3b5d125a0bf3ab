"""Handlers that do not stop, that raise, that return nonsense: each ends on record, and no slot is lost."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.live import TIMES, Live, wait_for

pytestmark = pytest.mark.services


def both_slots_work(live: Live) -> None:
    go = live.ledger.with_name(f"go-{uuid4()}")
    ids = [live.submit("waits-for-file-cpu", str(go)) for _ in range(2)]
    wait_for(lambda: live.statuses(ids)["running"] == 2, what="two run at once")
    go.touch()
    assert [live.ended(task_id)["status"] for task_id in ids] == ["completed", "completed"]


def released(live: Live, task_id: str) -> bool:
    query = "SELECT 1 FROM tasks_app_taskattempt WHERE task_id = %s AND released_at IS NOT NULL"
    return bool(live.sql(query, task_id))


def test_a_handler_that_ignores_a_cancel_is_killed_and_its_slot_lives_on(live: Live) -> None:
    task_id = live.submit("stubborn")
    live.running(task_id)
    reply = live.http.post(f"/api/v1/tasks/{task_id}/cancel/")
    assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    assert live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 409
    wait_for(lambda: released(live, task_id), timeout_s=20, what="its process is killed")
    both_slots_work(live)
    task = live.task(task_id)
    assert (task["status"], task["attempt"], task["attempts"][0]["outcome"]) == ("cancelled", 1, "cancelled")


def test_a_coroutine_that_swallows_its_cancellation_is_fenced_and_reported_and_holds_its_slot(live: Live) -> None:
    task_id = live.submit("swallows", "5")
    live.running(task_id)
    assert live.http.post(f"/api/v1/tasks/{task_id}/cancel/").json()["status"] == "cancelled"
    wait_for(
        lambda: f"task {task_id} (swallows) was told to stop and goes on" in live.stack.log("worker-io"),
        what="a report",
    )
    assert not released(live, task_id)
    assert live.ended(live.submit("echo"))["status"] == "completed"
    # Its worker goes on to extend the lease: the slot is its own until it stops.
    extended = "SELECT lease_expires_at > ended_at + make_interval(secs => %s) FROM tasks_app_taskattempt"
    held_s = float(TIMES["A2A_LEASE_S"]) + 0.5
    wait_for(
        lambda: live.sql(f"{extended} WHERE task_id = %s", held_s, task_id) == [(True,)],
        timeout_s=3,
        what="its lease is extended",
    )
    wait_for(lambda: released(live, task_id), what="it ends by itself")
    assert live.task(task_id)["status"] == "cancelled"


def test_a_coroutine_in_the_cpu_lane_says_what_it_does(live: Live) -> None:
    """Django refuses its connection to a thread with an event loop; that process has nothing else to do."""
    task = live.ended(live.submit("coroutine-cpu"))
    assert (task["error"], task["status"]) == (None, "completed")
    said = [message["parts"][0]["text"] for message in task["messages"][1:]]
    assert (said, task["checkpoints"][0]["name"]) == (["step 0", "step 1", "step 2"], "step")


def test_a_handler_that_ignores_its_timeout_is_killed_and_its_task_has_failed(live: Live) -> None:
    task_id = live.submit("stubborn", timeout_s=1)
    task = live.ended(task_id)
    assert (task["status"], task["attempt"], task["error"]["code"]) == ("failed", 1, "timeout")
    wait_for(lambda: released(live, task_id), timeout_s=20, what="its process is killed")
    both_slots_work(live)
    assert live.task(task_id)["attempts"][0]["outcome"] == "timed_out"


def test_a_synchronous_handler_is_interrupted_at_its_timeout(live: Live) -> None:
    task = live.ended(live.submit("sleep-cpu", timeout_s=1, parameters={"seconds": 60, "steps": 1}))
    assert (task["status"], task["error"]["code"]) == ("failed", "timeout")


@pytest.mark.parametrize(
    ("text", "code", "attempts"),
    [
        ("ValueError", "handler_error", 3),
        ("MemoryError", "out_of_memory", 1),
        ("nonsense", "bad_result", 1),
        ("nan", "bad_result", 1),
        ("progress", "bad_result", 1),
        ("progress of 7", "handler_error", 3),
        ("progress of NaN", "handler_error", 3),
        ("unknown", "handler_error", 3),
    ],
)
def test_what_a_handler_raises_or_returns_ends_its_task_readably(
    live: Live, text: str, code: str, attempts: int
) -> None:
    """What nobody expected is tried again; what the handler or a limit says of it is not."""
    task = live.ended(live.submit("raises", text))
    assert (task["status"], task["error"]["code"], task["attempt"]) == ("failed", code, attempts)
    last = "out_of_memory" if code == "out_of_memory" else "failed"
    assert [a["outcome"] for a in task["attempts"]] == ["retried"] * (attempts - 1) + [last]
    assert task["attempts"][-1]["error"]["message"]


@pytest.mark.parametrize("agent", ["flaky", "flaky-io"])
def test_a_failure_is_tried_again_after_the_delay_its_handler_names(live: Live, agent: str) -> None:
    task = live.ended(live.submit(agent))
    assert (task["status"], task["attempt"]) == ("completed", 4)
    assert [a["outcome"] for a in task["attempts"]] == ["retried", "snoozed", "retried", "completed"]
    codes = [a["error"] and a["error"]["code"] for a in task["attempts"]]
    assert codes == ["busy", "snoozed", "handler_error", None]
    spent, waited = live.sql(
        "SELECT max(spent), min(again.claimed_at - before.ended_at) >= interval '0.3 s' FROM tasks_app_task"
        " JOIN tasks_app_taskattempt again ON again.task_id = tasks_app_task.id"
        " JOIN tasks_app_taskattempt before ON before.task_id = again.task_id AND before.number = again.number - 1"
        " WHERE tasks_app_task.id = %s AND before.outcome <> 'retried' OR before.number = 1 AND before.task_id = %s",
        task["id"],
        task["id"],
    )[0]
    assert (spent, waited) == (3, True)
    assert [part["text"] for message in task["messages"] for part in message["parts"]][-1] == "found step 3"


@pytest.mark.parametrize("text", ["SystemExit", "KeyboardInterrupt"])
def test_a_handler_that_asks_its_process_to_exit_takes_no_slot_with_it(live: Live, text: str) -> None:
    task = live.ended(live.submit("raises", text), timeout_s=60)
    assert task["status"] == "failed"
    both_slots_work(live)


def test_the_shortest_timeouts_end_their_own_tasks_and_nobody_elses(live: Live) -> None:
    tiny = [live.submit("sleep-cpu", timeout_s=0.001, parameters={"seconds": 5}) for _ in range(12)]
    both_slots_work(live)
    ends = [live.ended(task_id) for task_id in tiny]
    assert {task["status"] for task in ends} == {"failed"}
    assert {task["error"]["code"] for task in ends} == {"timeout"}
    assert {task["attempt"] for task in ends} == {1}


def test_an_exit_in_the_event_loop_ends_its_own_task_and_nobody_elses(live: Live) -> None:
    neighbour = live.submit("sleep", parameters={"seconds": 1})
    live.running(neighbour)
    task = live.ended(live.submit("exits-io"))
    assert (task["status"], task["error"]["code"]) == ("failed", "handler_error")
    assert live.ended(neighbour)["status"] == "completed"
    assert live.ended(live.submit("echo"))["status"] == "completed"


@pytest.mark.parametrize("agent", ["unstorable", "unstorable-io"])
def test_a_record_that_cannot_be_stored_fails_its_task_and_is_not_lost_in_silence(live: Live, agent: str) -> None:
    task = live.ended(live.submit(agent))
    assert (task["status"], task["attempt"], task["error"]["code"]) == ("failed", 1, "bad_result")
