"""Signals to the command itself: TERM ends it like Ctrl-C does, and nothing interrupts it while it cleans up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_like_ctrl_c() -> None:
    """Make TERM and HUP raise KeyboardInterrupt, so that every `finally` runs; INT too where a shell had it ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in _ENDING:
        signal.signal(number, interrupt)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore the signals that end a program; what runs inside is bounded by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
