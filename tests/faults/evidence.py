"""What three witnesses say of a load: its clients, the ledger of its handlers, and the rows of the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tests.faults.ledger import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A task as its client knows it: accepted with a 2xx. ``ledgered`` says whether its agent keeps the ledger."""

    task: str
    message: str
    end: str = "completed"
    ledgered: bool = True
    #: A cancel was sent; and one was answered with a 2xx.
    cancel_sent: bool = False
    cancel_taken: bool = False
    #: The first end that the client was shown, if any.
    seen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    task: str
    message: str
    agent: str
    status: str
    attempt: int
    generation: int
    admitted: bool = False
    leased: bool = False
    #: The run that the artifact ``effect`` names; empty if there is none.
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    task: str
    number: int
    worker: str
    pid: int
    claimed_at: datetime
    ended_at: datetime | None
    released_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    task: str
    generation: int
    kind: str
    status: str
    #: The attempt that wrote it; 0 if none did.
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    submitted: Sequence[Submitted]
    ledger: Sequence[Entry]
    tasks: Sequence[TaskRow]
    attempts: Sequence[AttemptRow]
    events: Sequence[EventRow]
    #: How many attempts of an agent may hold a slot at once.
    limits: Mapping[str, int] = field(default_factory=dict)
