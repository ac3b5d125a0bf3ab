"""How a coroutine that was told to stop still does what must be done: it may be told so again at any moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


async def done_within(seconds: float, coroutine: Coroutine[Any, Any, Any], *, what: str) -> None:
    """Runs it to its end or for so many seconds, whoever is cancelled meanwhile; an error of it is logged."""
    work = asyncio.ensure_future(asyncio.wait_for(coroutine, seconds))
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            continue  # told again
    error = asyncio.CancelledError() if work.cancelled() else work.exception()
    if error is not None:
        log.warning("%s: %s: %s", what, type(error).__name__, error)


async def stopped(work: asyncio.Future[Any]) -> None:
    """Cancels it, again whenever the caller is cancelled again, and waits for it to end: until then it holds a slot."""
    work.cancel()
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
    if not work.cancelled():
        work.exception()  # looked at, so that nobody complains that nobody did
