"""Judges what a load left behind: the ledger of its handlers against what the database says. Pure.

Three witnesses that must agree: the clients (what was accepted, cancelled, seen), the handlers (the ledger) and the
database. Every rule yields a sentence for each violation; without one, nothing was lost and nothing done twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any

from tests.faults.evidence import AttemptRow, EventRow, Evidence, Submitted, TaskRow
from tests.faults.ledger import EFFECT, END, START, Entry

TERMINAL = {"completed", "failed", "cancelled", "rejected"}
#: How an attempt ends by itself: its own last write was accepted.
BY_ITSELF = {"completed", "failed", "rejected", "retried", "snoozed", "interrupted"}
#: Why there is another attempt after one: it was lost, stopped, or asked for it.
CAUSES = {
    *("lease_expired", "process_lost", "handed_back", "no_room", "retried", "snoozed", "interrupted"),
    *("timed_out", "heartbeat_lost", "out_of_memory", "cpu_limit", "disk_limit"),
}
#: The outcomes that a task's last attempt may have, by the task's end; with none, it ended between two attempts.
LAST = {
    "completed": {"completed"},
    "cancelled": {"cancelled", *CAUSES},
    "rejected": {"rejected"},
    "failed": {"failed", *CAUSES},
}
#: The outcomes of attempts whose handler need not have begun: taken from them right after the claim.
UNBEGUN = {"cancelled", *CAUSES} - {"retried", "snoozed", "interrupted"}


@dataclass(slots=True)
class Case:
    """Everything about one task."""

    submitted: Submitted
    row: TaskRow
    attempts: list[AttemptRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def of(self, kind: str, number: int) -> list[Entry]:
        return [entry for entry in self.entries if (entry.kind, entry.attempt) == (kind, number)]


def violations(evidence: Evidence) -> list[str]:
    """What is wrong, a sentence each; empty if all is well."""
    found = [*_of_the_whole(evidence), *_over_limits(evidence)]
    for case in _cases(evidence):
        for rule in RULES:
            found += [f"task {case.row.task}: {text}" for text in rule(case)]
    return found


def _of_the_whole(evidence: Evidence) -> Iterator[str]:
    """Accepted tasks and rows are the same set: none lost, none made twice of one message, none from nowhere."""
    accepted = {item.task for item in evidence.submitted}
    rows = {row.task for row in evidence.tasks}
    yield from (f"task {task}: was accepted and is not there" for task in sorted(accepted - rows))
    yield from (f"task {task}: is there and nobody was told so" for task in sorted(rows - accepted))
    for what, messages in (
        ("answers", Counter(item.message for item in evidence.submitted)),
        ("tasks", Counter(row.message for row in evidence.tasks)),
    ):
        yield from (f"message {name}: {count} {what} for it" for name, count in messages.items() if count > 1)
    strangers = {entry.task for entry in evidence.ledger} - rows
    yield from (f"task {task}: ran and is not there" for task in sorted(strangers))
    keys = defaultdict(set)
    for entry in evidence.ledger:
        keys[entry.key].add(entry.task)
    yield from (f"key {key}: used by {len(tasks)} tasks" for key, tasks in keys.items() if len(tasks) > 1)


def _over_limits(evidence: Evidence) -> Iterator[str]:
    """An agent's attempts hold a slot from their claim until they are released; never more than it declares."""
    agents = {row.task: row.agent for row in evidence.tasks}
    changes: dict[str, list[tuple[datetime, int]]] = {name: [] for name in evidence.limits}
    for attempt in evidence.attempts:
        agent = agents.get(attempt.task, "")
        if agent in changes and attempt.released_at is not None:
            changes[agent] += [(attempt.claimed_at, 1), (attempt.released_at, -1)]
    for agent, limit in evidence.limits.items():
        most = max(accumulate(change for _, change in sorted(changes[agent])), default=0)
        if most > limit:
            yield f"agent {agent}: {most} attempts at once, and its limit is {limit}"


def reached_one_end(case: Case) -> Iterator[str]:
    row = case.row
    ends = [event for event in case.events if event.kind == "status" and event.status in TERMINAL]
    if row.status not in TERMINAL:
        yield f"is {row.status}"
    if len(ends) != 1 or ends[0].status != row.status or ends[0].generation != row.generation:
        yield f"is {row.status} at generation {row.generation}; its ends: {[(e.generation, e.status) for e in ends]}"
    if case.submitted.seen and case.submitted.seen != row.status:
        yield f"was seen {case.submitted.seen} and is {row.status}"


def ended_as_was_asked(case: Case) -> Iterator[str]:
    asked, status = case.submitted, case.row.status
    if asked.cancel_taken and status != "cancelled":
        yield f"a cancel was accepted, and it is {status}"
    allowed = {asked.end, "cancelled"} if asked.cancel_sent else {asked.end}
    if status in TERMINAL and status not in allowed:
        yield f"is {status}, not {asked.end}"


def has_every_generation_once(case: Case) -> Iterator[str]:
    numbers = [event.generation for event in case.events]
    if numbers != list(range(1, case.row.generation + 1)):
        yield f"is at generation {case.row.generation} with the events {numbers}"


def numbers_its_attempts(case: Case) -> Iterator[str]:
    numbers = [attempt.number for attempt in case.attempts]
    if numbers != list(range(1, case.row.attempt + 1)):
        yield f"has had {case.row.attempt} attempts; on record are {numbers}"


def closed_every_attempt(case: Case) -> Iterator[str]:
    for attempt in case.attempts:
        open_ = [name for name in ("ended_at", "released_at", "outcome") if getattr(attempt, name) is None]
        if open_:
            yield f"attempt {attempt.number} has no {', '.join(open_)}"


def has_a_cause_for_every_extra_attempt(case: Case) -> Iterator[str]:
    for attempt in case.attempts[:-1]:
        if attempt.outcome not in CAUSES:
            yield f"attempt {attempt.number} ended as {attempt.outcome}, and there was another"
    if case.attempts and case.attempts[-1].outcome not in LAST.get(case.row.status, set()):
        yield f"is {case.row.status}; its last attempt ended as {case.attempts[-1].outcome}"
    if not case.attempts and case.row.status == "completed":
        yield "is completed without an attempt"


def had_one_attempt_at_a_time(case: Case) -> Iterator[str]:
    """In the database's time: a claim comes after the end of the right to write before it."""
    for before, after in pairwise(case.attempts):
        if before.ended_at is None or after.claimed_at < before.ended_at:
            yield f"attempt {after.number} was claimed at {after.claimed_at}, before {before.number} had ended"


def wrote_only_with_its_lease(case: Case) -> Iterator[str]:
    """Every event of an attempt stands between its claim and the end of its lease: no late write was accepted."""
    holder = 0
    for event in case.events:
        if (event.kind, event.status) == ("status", "running"):
            if holder:
                yield f"event {event.generation} is a claim, while attempt {holder} had the lease"
            holder = event.attempt
            continue
        if event.attempt and event.attempt != holder:
            yield f"event {event.generation} is of attempt {event.attempt}, which had no lease"
        if event.kind == "status":
            holder = 0


def holds_nothing(case: Case) -> Iterator[str]:
    yield from (f"is still {what}" for what in ("admitted", "leased") if getattr(case.row, what))


def ran_each_attempt_once(case: Case) -> Iterator[str]:
    """Each attempt ran its handler once, in the worker and process that claimed it, and had at most one effect."""
    by_number = {attempt.number: attempt for attempt in case.attempts}
    for number in sorted({entry.attempt for entry in case.entries} | by_number.keys()):
        starts, effects, ends = (case.of(kind, number) for kind in (START, EFFECT, END))
        attempt = by_number.get(number)
        if attempt is None:
            yield f"attempt {number} ran and is not on record"
            continue
        if not starts and attempt.outcome not in UNBEGUN:
            yield f"attempt {number} ended as {attempt.outcome} and never ran"
        for what, entries in (("starts", starts), ("effects", effects), ("ends", ends)):
            if len(entries) > 1:
                yield f"attempt {number} has {len(entries)} {what}"
        for start in starts:
            if (start.worker, start.pid) != (attempt.worker, attempt.pid):
                yield f"attempt {number} is {attempt.worker}'s ({attempt.pid}) and ran in {start.worker} ({start.pid})"


def had_the_effect_of_the_accepted_attempt(case: Case) -> Iterator[str]:
    """The effect that counts is the completed attempt's: it is in the ledger, and the artifact is its own."""
    for attempt in case.attempts:
        if attempt.outcome != "completed":
            continue
        effects = case.of(EFFECT, attempt.number)
        if not effects:
            yield f"attempt {attempt.number} completed without its effect"
        elif case.row.effect != effects[0].run:
            yield f"shows the effect of run {case.row.effect or '(none)'}, not of attempt {attempt.number}"
        if [entry.how for entry in case.of(END, attempt.number)] != ["returned"]:
            yield f"attempt {attempt.number} completed, and its handler did not return"


def overlapped_with_no_accepted_attempt(case: Case) -> Iterator[str]:
    """In the handlers' time: of two runs at the same moment, one was not accepted."""
    accepted = [attempt.number for attempt in case.attempts if attempt.outcome in BY_ITSELF]
    for before, after in pairwise(accepted):
        ends = [entry.at for entry in case.of(END, before)]
        starts = [entry.at for entry in case.of(START, after)]
        if ends and starts and min(starts) < max(ends):
            yield f"attempts {before} and {after} ran at the same time, and both were accepted"


def kept_its_key(case: Case) -> Iterator[str]:
    keys = {entry.key for entry in case.entries}
    if len(keys) > 1:
        yield f"was given {len(keys)} idempotency keys"


_LEDGER_RULES = (ran_each_attempt_once, had_the_effect_of_the_accepted_attempt, overlapped_with_no_accepted_attempt)


def _where_ledgered(rule: Callable[[Case], Iterator[str]]) -> Callable[[Case], Iterable[str]]:
    return lambda case: rule(case) if case.submitted.ledgered else ()


RULES: tuple[Callable[[Case], Iterable[str]], ...] = (
    reached_one_end,
    ended_as_was_asked,
    has_every_generation_once,
    numbers_its_attempts,
    closed_every_attempt,
    has_a_cause_for_every_extra_attempt,
    had_one_attempt_at_a_time,
    wrote_only_with_its_lease,
    holds_nothing,
    kept_its_key,
    *map(_where_ledgered, _LEDGER_RULES),
)


def _cases(evidence: Evidence) -> Iterator[Case]:
    """The tasks that were both accepted and found, each with its attempts and events in order."""
    rows = {row.task: row for row in evidence.tasks}
    attempts, events, entries = (_by_task(part) for part in (evidence.attempts, evidence.events, evidence.ledger))
    for submitted in evidence.submitted:
        task = submitted.task
        if task in rows:
            yield Case(
                submitted=submitted,
                row=rows[task],
                attempts=sorted(attempts[task], key=lambda attempt: attempt.number),
                events=sorted(events[task], key=lambda event: event.generation),
                entries=entries[task],
            )


def _by_task(rows: Iterable[Any]) -> defaultdict[str, list[Any]]:
    grouped = defaultdict(list)
    for row in rows:
        grouped[row.task].append(row)
    return grouped
