"""Runs an engine verb from a worker's thread, through a database that goes away for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.db import connection

from tasks_app import engine
from tasks_app.database import OUTAGES

T = TypeVar("T")
P = ParamSpec("P")

log = logging.getLogger(__name__)
PAUSE_S = 0.5


def persist(verb: Callable[P, engine.Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """The verb's result, as :func:`patiently`.

    Verbs are idempotent for the ids they carry, so a repeat after an answer that was lost changes nothing.
    """
    return patiently(lambda: engine.run(verb, *args, **kwargs))


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What it returns. Reconnects and tries again for as long as a lease lasts, then raises the database's error."""
    deadline = time.monotonic() + settings.A2A_LEASE_S
    while True:
        try:
            return call(*args, **kwargs)
        except OUTAGES as error:
            connection.close()
            if time.monotonic() > deadline:
                raise
            log.warning("the database is away, trying again: %s", error)
            time.sleep(PAUSE_S)
