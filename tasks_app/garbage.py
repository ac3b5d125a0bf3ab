"""Garbage collection for processes that live long and hold much that never goes away."""

from __future__ import annotations

import gc

#: So many new objects before the youngest are looked through; Python's own 700 is a look at every few submits.
YOUNGEST = 10_000


def settle(*, seldom: bool = False) -> None:
    """To be called once a process has loaded what it needs: that is never looked through again.

    ``seldom``: nor is what is young as often as Python would. Not where handlers run, whose objects may be large.

    A look at everything takes a tenth of a second, in which a web process answers nobody. Processes that are forked
    after this also go on to share these pages.
    """
    gc.collect()
    gc.freeze()
    if seldom:
        gc.set_threshold(YOUNGEST, *gc.get_threshold()[1:])
