"""Every way in which a Celery worker is told to stop, led to one way out: ``workers/leaving.py``.

Warm: SIGTERM, SIGINT, ``celery control shutdown`` (Flower's button), an error that Celery cannot recover from. Cold:
SIGQUIT, or any second signal. Celery's own cold shutdown is not used: it kills children from within its signal handler
before it says that it shuts down, waits there for those that ignore it, and fails in the threads pool.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from celery import bootsteps
from celery.platforms import EX_FAILURE
from celery.signals import worker_shutting_down
from celery.worker import state

from tasks_app.models import Worker
from tasks_app.wakeups import bell, worker_channel
from workers.heartbeat import Heartbeat
from workers.leaving import COLD, STOPPED, WARM, Leaving
from workers.node import Node

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_here: tuple[Node, Heartbeat, Leaving] | None = None


def watch(node: Node, heartbeat: Heartbeat) -> None:
    """In the worker's parent, once Celery has put its own signal handlers in place."""
    global _here
    leaving = Leaving(node, heartbeat)
    leaving.start()
    _here = (node, heartbeat, leaving)
    _make_cold(signal.SIGQUIT)


def begin(how: str) -> None:
    """Asks the worker to leave, and returns at once; ``how`` as Celery says it. Safe in a signal handler."""
    if _here is not None:
        _here[2].ask(COLD if how == "Cold" else WARM)
        _make_cold(*_SIGNALS)


def end() -> None:
    """The pool has stopped: says so on record, and leaves nothing behind. Waits a few seconds at most."""
    if _here is None:
        return
    node, heartbeat, leaving = _here
    leaving.ask(STOPPED)
    leaving.join(timeout=3)
    heartbeat.retire(Worker.State.OFFLINE)
    heartbeat.end()
    bell.ring([(worker_channel(node.name), "")])
    heartbeat.join(timeout=3)


class ShutdownStep(bootsteps.StartStopStep):
    """A part of Celery's worker: hears of each stop, also of those that no signal began."""

    def close(self, worker: Any) -> None:
        begin("Warm")


def _make_cold(*numbers: int) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            signal.signal(number, _on_cold)


def _on_cold(number: int, frame: FrameType | None) -> None:
    if _here is not None and os.getpid() == _here[0].pid:  # a child that was forked later has this handler too
        name = signal.Signals(number).name
        worker_shutting_down.send(sender=_here[0].name, sig=name, how="Cold", exitcode=EX_FAILURE)
        state.should_stop = EX_FAILURE  # type: ignore[assignment]  # the stubs know only its first value
