"""What this process, and those that share a board with it, have counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from zlib import crc32

from prometheus_client.metrics_core import Metric

from tasks_app import agents
from tasks_app.metrics.board import Board
from tasks_app.metrics.families import Columns, Family, bucket

Change = tuple[int, float]
#: As many processes at most as can share a file.
SIBLINGS_MAX = 64


class Tally:
    """The counters and histograms of the agents registered now."""

    def __init__(self, *, rows: int = 1, file: Path | None = None) -> None:
        self.columns = Columns(agents.registered())
        self.board = Board(columns=self.columns.count, rows=rows, file=file)

    def counted(self, family: Family, agent: str, priority: int, lane: str) -> Change:
        return self.columns.of_task(family, agent, priority, lane), 1.0

    def observed(self, family: Family, agent: str, priority: int, lane: str, seconds: float) -> Iterator[Change]:
        """The database's clock may have been set back meanwhile: less than nothing counts as nothing."""
        seconds = max(0.0, seconds)
        first = self.columns.of_task(family, agent, priority, lane)
        yield first + bucket(family, seconds), 1.0
        yield first + family.width - 1, seconds

    def add(self, changes: Iterable[Change]) -> None:
        self.board.add(changes)

    def collect(self) -> Iterator[Metric]:
        return self.columns.rendered(self.board.totals())


_tally: Tally | None = None


def tally() -> Tally:
    """This process's tally, made when first asked for: by then all agents are registered."""
    global _tally
    if _tally is None:
        _tally = Tally()
    return _tally


def share_with_children(count: int) -> None:
    """In a parent, before it forks: up to ``count`` children, and those that replace them, add to its tally."""
    global _tally
    _tally = Tally(rows=1 + count)


def share_by_file(folder: Path) -> None:
    """Before anything is counted: processes that name this folder, and have the same agents, have one tally."""
    global _tally
    names = ",".join(sorted(agents.registered()))
    _tally = Tally(rows=SIBLINGS_MAX, file=folder / f"tasks-{crc32(names.encode()):08x}")


def become_child(index: int) -> None:
    """In a forked child, before it counts: the row of this index is its own, as it was its forerunner's."""
    tally().board.take(1 + index)
