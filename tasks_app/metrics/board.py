"""Numbers that several processes add to and each can read: rows of doubles in shared memory. Knows nothing of tasks.

Each process adds to a row of its own, so that no two ever write one number, and reads the sum of all rows. A row
outlives its process: who takes it next goes on from where it stood, so that a sum never falls.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Iterable
from pathlib import Path

_WIDTH = 8


class Board:
    """``columns`` numbers in each of ``rows`` rows, all 0 at first; the maker has row 0.

    In memory that forked children inherit, or in a file where the processes are started apart. Memory that nobody has
    written to is not used.
    """

    def __init__(self, *, columns: int, rows: int = 1, file: Path | None = None) -> None:
        self._columns, self._rows = columns, rows
        # One byte per row says that it was taken: looking at a row that was not would make its memory real.
        self._head = -(-rows // _WIDTH) * _WIDTH
        size = self._head + rows * columns * _WIDTH
        self._descriptor = -1 if file is None else _opened(file, size)
        memory = memoryview(mmap.mmap(self._descriptor, size))
        self._taken = memory[: self._head]
        self._numbers: memoryview[float] = memory[self._head :].cast("d")
        self.take(0 if file is None else self._free_row())

    def take(self, row: int) -> None:
        """From now on this process adds to this row, which no other that runs may have. For a forked child, first."""
        row = min(row, self._rows - 1)
        # A new one: a thread of the parent may have held the old one when this process was forked.
        self._lock = threading.Lock()
        self._start = row * self._columns
        self._taken[row] = 1

    def add(self, changes: Iterable[tuple[int, float]]) -> None:
        """Adds to columns of this process's row."""
        with self._lock:
            for column, amount in changes:
                self._numbers[self._start + column] += amount

    def totals(self) -> list[float]:
        """Each column's sum over the rows."""
        rows = [self._row(row) for row in range(self._rows) if self._taken[row]]
        return rows[0] if len(rows) == 1 else [sum(column) for column in zip(*rows, strict=True)]

    def _row(self, row: int) -> list[float]:
        return list(self._numbers[row * self._columns : (row + 1) * self._columns])

    def _free_row(self) -> int:
        """The first that no live process has: each holds a lock on its row's byte until it ends, however it does."""
        for row in range(self._rows):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
            except OSError:
                continue
            return row
        raise RuntimeError(f"more than {self._rows} processes share one board")


def _opened(file: Path, size: int) -> int:
    """The file, with its room on the disk: memory whose disk is full kills who writes to it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    if os.fstat(descriptor).st_size < size:
        os.posix_fallocate(descriptor, 0, size)
    return descriptor
