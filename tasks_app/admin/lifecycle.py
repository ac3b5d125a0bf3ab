"""The state diagram of one task: the states as boxes, the moves as lines, and what this task has been through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from tasks_app.admin import looks
from tasks_app.status import INTERRUPTED, TERMINAL, TRANSITIONS, TaskStatus

_S = TaskStatus
Move = tuple[TaskStatus, TaskStatus]

#: (left, top, width) of each state's box, in the units of the drawing.
PLACES: dict[TaskStatus, tuple[int, int, int]] = {
    _S.PENDING: (8, 64, 118),
    _S.RUNNING: (268, 64, 118),
    _S.INPUT_REQUIRED: (134, 140, 126),
    _S.AUTH_REQUIRED: (134, 188, 126),
    _S.COMPLETED: (540, 20, 118),
    _S.FAILED: (540, 64, 118),
    _S.CANCELLED: (540, 108, 118),
    _S.REJECTED: (540, 152, 118),
}
HEIGHT = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The task came into this state at this instant."""

    status: TaskStatus
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A state: ``mark`` is now, been or empty; ``note`` says how long it stood there."""

    status: str
    name: str
    mark: str
    note: str
    left: int
    top: int
    width: int

    @property
    def middle(self) -> int:
        return self.left + self.width // 2

    @property
    def baseline(self) -> int:
        return self.top + (16 if self.note else 22)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A move between two states, as an SVG path; ``taken`` says how often."""

    path: str
    taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    boxes: Sequence[Box]
    lines: Sequence[Line]
    retries: int


def diagram(changes: Sequence[Change], *, now: datetime) -> Diagram:
    """The diagram of a task that went through these changes, oldest first."""
    taken: Counter[Move] = Counter((before.status, after.status) for before, after in pairwise(changes))
    lines = [
        Line(path=_path(move), taken=taken[move]) for move in _moves() if taken[move] or not _only_when_taken(move)
    ]
    return Diagram(
        boxes=_boxes(changes, now),
        lines=sorted(lines, key=lambda line: line.taken),
        retries=taken[_S.RUNNING, _S.PENDING],
    )


def _boxes(changes: Sequence[Change], now: datetime) -> list[Box]:
    present = changes[-1].status if changes else None
    stood_s: dict[TaskStatus, float] = {}
    ends = [change.at for change in changes[1:]] + [now]
    for change, end in zip(changes, ends, strict=True):
        stood_s[change.status] = stood_s.get(change.status, 0.0) + (end - change.at).total_seconds()
    return [
        Box(
            status=status.value,
            name=looks.words(status.value),
            mark="now" if status == present else "been" if status in stood_s else "",
            note=looks.span(stood_s[status]) if status in stood_s and status not in TERMINAL else "",
            left=left,
            top=top,
            width=width,
        )
        for status, (left, top, width) in PLACES.items()
    ]


def _moves() -> list[Move]:
    return [(before, after) for before, afters in TRANSITIONS.items() for after in sorted(afters)]


def _only_when_taken(move: Move) -> bool:
    """Ends without a run are rare and their lines long: drawn only where they happened."""
    return move[0] != _S.RUNNING and move[1] in TERMINAL


def _path(move: Move) -> str:
    before, after = move
    left, top, width = PLACES[before]
    to_left, to_top, _ = PLACES[after]
    level, to_level = top + HEIGHT // 2, to_top + HEIGHT // 2
    if move == (_S.PENDING, _S.RUNNING):
        return f"M{left + width},{level} H{to_left - 7}"
    if move == (_S.RUNNING, _S.PENDING):
        return f"M{left + 40},{top} C{left + 10},14 124,14 92,{to_top - 7}"
    if after in INTERRUPTED:
        return f"M{left + 50},{top + HEIGHT} V{to_level} H{PLACES[after][0] + PLACES[after][2] + 7}"
    if before in INTERRUPTED and after == _S.PENDING:
        return f"M{left},{level} H67 V{to_top + HEIGHT + 7}"
    if before == _S.RUNNING:
        return f"M{left + width},{level} H470 V{to_level} H{to_left - 7}"
    if before == _S.PENDING:
        return f"M40,{top} V6 H492 V{to_level} H{to_left - 7}"
    return f"M{left + width},{level + 8} H506 V{to_level} H{to_left - 7}"
