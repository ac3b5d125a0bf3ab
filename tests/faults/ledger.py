"""The ledger: a file outside the system to which handlers append what they do, as they do it.

One line of JSON per entry, by one write to a file opened for appending, so that lines of many processes never mix and
what a killed process wrote stays. Times are of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

START, EFFECT, END = "start", "effect", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line. ``run`` is random, made once per call of a handler; ``at`` is in seconds.

    ``how`` says how a run ended: ``returned``, or the name of what it raised.
    """

    kind: str
    task: str
    attempt: int
    run: str
    key: str
    worker: str
    pid: int
    at: float
    how: str = ""


class Page:
    """One run of a handler, in the ledger."""

    def __init__(self, path: str, ctx: Any) -> None:
        from workers.node import current_or_none

        node = current_or_none()
        self._path = path
        self._facts = {
            "task": str(ctx.task_id),
            "attempt": ctx.attempt,
            "run": uuid4().hex,
            "key": ctx.idempotency_key,
            "worker": node.name if node else "",
            "pid": os.getpid(),
        }

    @property
    def run(self) -> str:
        return str(self._facts["run"])

    def effect(self) -> None:
        """The run changes the world outside: what must count once for each accepted attempt."""
        self.write(EFFECT)

    def write(self, kind: str, **more: Any) -> None:
        line = json.dumps({"kind": kind, "at": time.monotonic(), **self._facts, **more}) + "\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


@contextmanager
def page(ctx: Any) -> Iterator[Page]:
    """Writes the run's start and, if its process lives to see it, its end."""
    made = Page(os.environ["A2A_TEST_LEDGER"], ctx)
    made.write(START)
    try:
        yield made
    except BaseException as error:
        made.write(END, how=type(error).__name__)
        raise
    made.write(END, how="returned")


def read(path: Path) -> list[Entry]:
    """All entries, in the order in which they were written."""
    return [Entry(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
