"""This worker process: its name, its lane, and what runs in it now. One per process; made when the worker starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from tasks_app import agents
from tasks_app.policies import Resources
from tasks_app.status import Lane

if TYPE_CHECKING:
    from tasks_app.engine import Lost
    from workers.runner import LaneRunner
    from workers.scratch import ScratchRoot


class Running(Protocol):
    """What runs in this worker, as its heartbeat sees it."""

    def start(self) -> None:
        """In the worker's parent process, once its pool is there."""
        ...

    def is_well(self) -> bool:
        """Whether it can run tasks; if not, the worker falls silent and the dispatcher stops counting on it."""
        ...

    def live(self) -> set[UUID]:
        """The attempts whose handlers run."""
        ...

    def forked(self, pid: int, status: Callable[[], int | None]) -> None:
        """The pool has a new child, and will know its exit status, as :class:`workers.slots.Exit` has it."""
        ...

    def reaped(self, pid: int) -> None:
        """A child of the pool is dead, and another will soon take its place."""
        ...

    def lost(self) -> list[Lost]:
        """Attempts that ended without saying so, since their process died; forgets them."""
        ...

    def in_use(self) -> Resources:
        """What all running attempts may use together."""
        ...

    def silent(self) -> set[UUID]:
        """The attempts whose handlers gave no sign of life for longer than they may, and go on."""
        ...

    def stop(self, attempt_id: UUID) -> None:
        """Tells the handler of an attempt that lost its lease to stop, and makes it if it does not."""
        ...

    def drain(self) -> None:
        """From now on no attempt starts here."""
        ...

    def is_draining(self) -> bool: ...

    def kill(self) -> None:
        """Ends the processes of the handlers that still run, where they have their own: the worker exits now."""
        ...


@dataclass
class Node:
    """A Celery worker of one lane."""

    name: str
    lane: Lane
    slots: int
    running: Running
    runner: LaneRunner
    capacity: Resources
    scratch: ScratchRoot
    agents: list[str] = field(default_factory=lambda: sorted(agents.registered()))
    hostname: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)


_current: Node | None = None


def set_current(node: Node | None) -> None:
    global _current
    _current = node


def current() -> Node:
    """This process's node. Raises RuntimeError where no worker was started."""
    if _current is None:
        raise RuntimeError("no worker runs in this process")
    return _current


def current_or_none() -> Node | None:
    return _current
