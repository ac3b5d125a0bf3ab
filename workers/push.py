"""Sends push notifications: takes turns over the configs that are due, many at once, each config's events in order.

Runs in worker-system as one job, which beat triggers; while one runs in a process, another there has nothing to do.
At-least-once: who is killed after the answer and before the database knows of it sends the same event again, under the
same ``webhook-id``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone

from tasks_app import engine, reads
from tasks_app.database import Line
from tasks_app.metrics.push import deliveries
from tasks_app.policies import RetryPolicy
from tasks_app.push import message, outbox
from tasks_app.push.guard import guard
from tasks_app.push.message import Secrets
from tasks_app.push.sealing import Unopenable
from tasks_app.push.values import Attempt, Claimed
from workers.webhook import TOTAL_S, Answer, Poster

log = logging.getLogger(__name__)

#: Configs that one process delivers from at once; of them of one host; and of one host those whose last try failed.
SLOTS, PER_HOST, PER_FAILING_HOST = 128, 16, 2
#: How long a claim holds after the last event that was taken: a request and its record fit in twice.
LEASE_S = 60.0
#: How long a database that is away is waited for, before claims are left to expire.
PATIENCE_S = 15.0
#: A config that has much to send lets the others have their turn after so long.
TURN_S = 10.0
#: How soon what has become due is looked for while others are delivered.
POLL_S = 0.1
#: Drawn evenly from 0 to 10 s, 20 s, … an hour: the default of A2A_PUSH_MAX_FAILURES covers about a day.
BACKOFF = RetryPolicy(initial_s=10.0, multiplier=2.0, max_s=3600.0)

_SHARES: dict[str, Any] = {"per_host": PER_HOST, "per_failing_host": PER_FAILING_HOST, "lease_s": LEASE_S}
_one_at_a_time = threading.Lock()


def deliver(leaving: threading.Event) -> int:
    """Delivers what is due until nothing is, or ``leaving`` is set; how many turns it gave.

    0 at once where another thread of this process is at it already.
    """
    if leaving.is_set() or not _one_at_a_time.acquire(blocking=False):
        return 0
    try:
        claimed = engine.run(outbox.claim, limit=SLOTS, **_SHARES)
        return asyncio.run(_pump(claimed, leaving)) if claimed else 0
    finally:
        _one_at_a_time.release()


async def _pump(claimed: list[Claimed], leaving: threading.Event) -> int:
    """Gives turns, and claims others as they end. What is still under way when it must leave is given back."""
    line, given = Line(patience_s=PATIENCE_S), 0
    turns: set[asyncio.Task[None]] = set()
    async with Poster(guard(), slots=SLOTS) as poster:
        try:
            while claimed or turns:
                given += len(claimed)
                turns |= {asyncio.create_task(Turn(held, line, poster).take()) for held in claimed}
                ended, turns = await asyncio.wait(turns, timeout=POLL_S)
                _tell(turn.exception() for turn in ended)
                if leaving.is_set():
                    break
                free = SLOTS - len(turns)
                claimed = await line.run(outbox.claim, limit=free, **_SHARES) if free else []
        finally:
            for turn in turns:
                turn.cancel()
            _tell(await asyncio.gather(*turns, return_exceptions=True))
            await line.close()
    return given


def _tell(errors: Iterable[BaseException | None]) -> None:
    """A turn that broke off, as when the database is away, leaves its claim to expire; then its event is sent again."""
    for error in errors:
        if isinstance(error, Exception):
            log.error("push: a turn broke off", exc_info=error)


@dataclass
class Turn:
    """One config's turn: its next event, and each after it, until there is none or the time is up."""

    held: Claimed
    line: Line
    poster: Poster
    #: When the claim was made or last moved on, by this machine's clock.
    _held_at: float = 0.0

    async def take(self) -> None:
        began_at = self._held_at = time.monotonic()
        after, number = self.held.delivered, self.held.failures + 1
        try:
            secrets = message.secrets(self.held)
            while (due := await self._due(after)) is not None:
                after, content = due
                goes_on = await self._send(after, number, content, secrets)
                if not goes_on or time.monotonic() > began_at + TURN_S:
                    break
                number = 1
        except Unopenable as error:
            await self._failed(Attempt(generation=after + 1, number=number, duration_s=0.0, error=str(error)))
        finally:
            # Whatever ended it; nothing where the claim has ended already.
            await self.line.run(outbox.release, self.held)

    async def _due(self, after: int) -> tuple[int, bytes] | None:
        """The next event that is to be sent, by its generation, and the body for it; None if there is none yet."""
        if self.held.batch_id is not None:
            completion = await self.line.run(outbox.completed, self.held.batch_id, after=after)
            return completion and (completion[0], message.completed(completion[1]))
        assert self.held.task_id is not None  # noqa: S101 (one of the two is there)
        events = await self.line.run(reads.events, self.held.task_id, after=after, limit=1)
        if not events:
            return None
        if after > 0:
            return after + 1, message.body(events[0], self.held)
        request = await self.line.run(outbox.accepted, self.held.task_id)
        return request and (1, message.first(events[0], self.held, *request))

    async def _send(self, generation: int, number: int, content: bytes, secrets: Secrets) -> bool:
        """Whether the event was taken and this claim may go on with the next."""
        if time.monotonic() > self._held_at + LEASE_S - 2 * TOTAL_S:
            return False  # the database made us wait: somebody else may have the claim before the answer comes
        headers = message.headers(self.held, generation, content, secrets=secrets, now=timezone.now())
        began_at = time.monotonic()
        answer = await self.poster.post(self.held.url, headers, content)
        attempt = Attempt(
            generation=generation,
            number=number,
            duration_s=time.monotonic() - began_at,
            status_code=answer.status,
            error=answer.error,
        )
        if not answer.is_taken:
            await self._failed(attempt, answer)
            return False
        deliveries.labels("delivered").inc()
        self._held_at = time.monotonic()
        return await self.line.run(outbox.advance, self.held, attempt, lease_s=LEASE_S)

    async def _failed(self, attempt: Attempt, answer: Answer | None = None) -> None:
        gone, asked_s = (answer.is_gone, answer.retry_after_s) if answer else (False, 0.0)
        dead = gone or attempt.number >= settings.A2A_PUSH_MAX_FAILURES
        wait_s = max(BACKOFF.delay_s(attempt.number - 1, random.random()), asked_s)  # noqa: S311 (no secret)
        await self.line.run(outbox.fail, self.held, attempt, wait_s=wait_s, dead=dead)
        deliveries.labels("dead" if dead else "failed").inc()
        if dead:
            what = f"batch {self.held.batch_id}" if self.held.batch_id else f"task {self.held.task_id}"
            log.warning("push: gave up on %s for %s: %s", self.held.host, what, attempt.error)
