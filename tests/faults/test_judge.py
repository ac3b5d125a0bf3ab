"""The judge of the fault tests is itself judged: it finds each planted violation, and nothing where all is well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults.evidence import AttemptRow, EventRow, Evidence, Submitted, TaskRow
from tests.faults.judge import violations
from tests.faults.ledger import EFFECT, END, START, Entry

T0 = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "t:1"


def entry(kind: str, attempt: int, at: float, **more: Any) -> Entry:
    how = "returned" if kind == END else ""
    facts = {"task": "t", "run": f"run-{attempt}", "key": KEY, "worker": f"w{attempt}", "pid": attempt, "how": how}
    return Entry(**{"kind": kind, "attempt": attempt, "at": at, **facts, **more})


def attempt(number: int, outcome: str | None, begin_s: int, end_s: int | None) -> AttemptRow:
    end = None if end_s is None else T0 + timedelta(seconds=end_s)
    return AttemptRow(
        task="t",
        number=number,
        worker=f"w{number}",
        pid=number,
        claimed_at=T0 + timedelta(seconds=begin_s),
        ended_at=end,
        released_at=end,
        outcome=outcome,
    )


def events(*kinds: tuple[str, str, int]) -> list[EventRow]:
    return [
        EventRow(task="t", generation=number, kind=kind, status=status, attempt=by)
        for number, (kind, status, by) in enumerate(kinds, 1)
    ]


def sound() -> dict[str, Any]:
    """A task that was rescued once from a stalled worker, whose handler woke up late, and then completed."""
    return {
        "submitted": [Submitted(task="t", message="m", seen="completed")],
        "ledger": [
            entry(START, 1, 1.0),
            entry(START, 2, 8.0),
            entry(EFFECT, 1, 8.5),
            entry(END, 1, 8.6),
            entry(EFFECT, 2, 9.0),
            entry(END, 2, 9.1),
        ],
        "tasks": [
            TaskRow(task="t", message="m", agent="a", status="completed", attempt=2, generation=7, effect="run-2")
        ],
        "attempts": [attempt(1, "lease_expired", 1, 7), attempt(2, "completed", 8, 10)],
        "events": events(
            ("status", "pending", 0),
            ("status", "running", 1),
            ("progress", "running", 1),
            ("status", "pending", 0),
            ("status", "running", 2),
            ("artifact", "running", 2),
            ("status", "completed", 2),
        ),
    }


def found(**changes: Any) -> str:
    return "\n".join(violations(Evidence(**{**sound(), **changes})))


def changed(part: str, index: int, **fields: Any) -> dict[str, Any]:
    """The sound evidence's part with one row doctored."""
    rows = list(sound()[part])
    rows[index] = replace(rows[index], **fields)
    return {part: rows}


def without(part: str, index: int) -> dict[str, Any]:
    rows = list(sound()[part])
    del rows[index]
    return {part: rows}


def with_more(part: str, *rows: Any) -> dict[str, Any]:
    return {part: [*sound()[part], *rows]}


def test_a_rescued_task_that_completed_is_well() -> None:
    assert found() == ""


def test_as_many_attempts_as_the_limit_allows_are_well() -> None:
    assert found(limits={"a": 1, "b": 1}) == ""


def test_a_task_cancelled_between_two_attempts_is_well() -> None:
    cancelled = {
        "submitted": [Submitted(task="t", message="m", cancel_sent=True, cancel_taken=True)],
        "ledger": sound()["ledger"][:1],
        "tasks": [TaskRow(task="t", message="m", agent="a", status="cancelled", attempt=1, generation=4)],
        "attempts": sound()["attempts"][:1],
        "events": events(
            ("status", "pending", 0), ("status", "running", 1), ("status", "pending", 0), ("status", "cancelled", 0)
        ),
    }
    assert found(**cancelled) == ""


def test_an_attempt_that_was_lost_before_its_handler_began_is_well() -> None:
    assert found(ledger=[line for line in sound()["ledger"] if line.attempt == 2]) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        # What clients were told
        (with_more("submitted", Submitted(task="u", message="n")), "was accepted and is not there"),
        ({"submitted": []}, "nobody was told so"),
        (with_more("submitted", Submitted(task="u", message="m")), "message m: 2 answers"),
        (
            with_more("tasks", TaskRow(task="u", message="m", agent="a", status="completed", attempt=1, generation=2)),
            "message m: 2 tasks",
        ),
        (changed("submitted", 0, seen="failed"), "was seen failed and is completed"),
        (changed("submitted", 0, cancel_sent=True, cancel_taken=True), "a cancel was accepted, and it is completed"),
        (changed("submitted", 0, end="failed"), "is completed, not failed"),
        # The end
        (changed("tasks", 0, status="running"), "is running"),
        (changed("tasks", 0, generation=8), "is completed at generation 8"),
        (
            {
                **changed("tasks", 0, generation=8),
                **with_more("events", EventRow(task="t", generation=8, kind="status", status="failed")),
            },
            "its ends: [(7, 'completed'), (8, 'failed')]",
        ),
        (changed("events", 6, status="failed"), "its ends: [(7, 'failed')]"),
        # Generations
        (without("events", 2), "with the events [1, 2, 4, 5, 6, 7]"),
        (changed("events", 3, generation=3), "with the events [1, 2, 3, 3, 5, 6, 7]"),
        # Attempts
        (without("attempts", 0), "has had 2 attempts; on record are [2]"),
        (changed("attempts", 1, released_at=None), "attempt 2 has no released_at"),
        (changed("attempts", 0, ended_at=None, outcome=None), "attempt 1 has no ended_at, outcome"),
        (changed("attempts", 0, outcome="completed"), "attempt 1 ended as completed, and there was another"),
        (changed("attempts", 0, outcome="cancelled"), "attempt 1 ended as cancelled, and there was another"),
        (changed("attempts", 1, outcome="failed"), "is completed; its last attempt ended as failed"),
        (changed("attempts", 1, claimed_at=T0 + timedelta(seconds=6)), "attempt 2 was claimed at"),
        (
            {"attempts": [], "ledger": [], **changed("tasks", 0, attempt=0)},
            "is completed without an attempt",
        ),
        # Leases
        (changed("events", 5, attempt=1), "event 6 is of attempt 1, which had no lease"),
        (changed("events", 2, kind="status", status="running", attempt=2), "event 3 is a claim, while attempt 1"),
        (changed("tasks", 0, admitted=True), "is still admitted"),
        (changed("tasks", 0, leased=True), "is still leased"),
        # Limits
        ({"limits": {"a": 0}}, "agent a: 1 attempts at once, and its limit is 0"),
        ({"limits": {"a": 1}, **changed("attempts", 0, released_at=T0 + timedelta(seconds=9))}, "2 attempts at once"),
        # The ledger
        (with_more("ledger", entry(START, 3, 20.0)), "attempt 3 ran and is not on record"),
        (with_more("ledger", entry(START, 1, 20.0, task="ghost", key="k")), "task ghost: ran and is not there"),
        (without("ledger", 1), "attempt 2 ended as completed and never ran"),
        (with_more("ledger", entry(START, 2, 20.0)), "attempt 2 has 2 starts"),
        (with_more("ledger", entry(EFFECT, 2, 9.05)), "attempt 2 has 2 effects"),
        (changed("ledger", 1, worker="w9"), "attempt 2 is w2's (2) and ran in w9 (2)"),
        (changed("ledger", 1, pid=9), "attempt 2 is w2's (2) and ran in w2 (9)"),
        (without("ledger", 4), "attempt 2 completed without its effect"),
        (changed("tasks", 0, effect="run-1"), "shows the effect of run run-1, not of attempt 2"),
        (changed("tasks", 0, effect=""), "shows the effect of run (none)"),
        (changed("ledger", 5, how="LeaseLost"), "attempt 2 completed, and its handler did not return"),
        (changed("attempts", 0, outcome="retried"), "attempts 1 and 2 ran at the same time"),
        (changed("ledger", 4, key="t:2"), "was given 2 idempotency keys"),
        (
            with_more("ledger", entry(START, 1, 0.0, task="ghost")),
            "key t:1: used by 2 tasks",
        ),
    ],
)
def test_a_planted_violation_is_found(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in found(**changes)
