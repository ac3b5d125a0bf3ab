"""Who follows tasks on an event loop, and what wakes them: the doorbell, and one poll a second for all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings

from tasks_app.prefix import prefixed
from tasks_app.wakeups import ASYNC, POLL_S, RETRY_S, SETTLED, TASKS

log = logging.getLogger(__name__)

#: A task of the loop that has not ended so long after it was cancelled is cancelled again.
CANCEL_AGAIN_S = 0.1

Latest = Callable[[list[UUID]], Awaitable[dict[UUID, int]]]


class _Waker(Protocol):
    """An event, or a member of a group."""

    def set(self) -> None: ...


class Group:
    """Many tasks that are followed as one; ``event`` is set while some may have changed since they were taken."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._changed: set[UUID] = set()

    def add(self, task_id: UUID) -> None:
        self._changed.add(task_id)
        self.event.set()

    def take(self) -> list[UUID]:
        """Those that may have changed; from now on others."""
        taken, self._changed = self._changed, set()
        self.event.clear()
        return list(taken)


@dataclass(slots=True, eq=False)
class _Member:
    """A task of a group."""

    group: Group
    id: UUID

    def set(self) -> None:
        self.group.add(self.id)


@dataclass(slots=True)
class _Followed:
    """A task that is followed. ``events`` are its followers', each with whether it waits for the task to settle."""

    id: UUID
    events: dict[_Waker, bool] = field(default_factory=dict)
    #: The generation that the last poll saw.
    seen: int = 0


class Hub:
    """Wakes the followers of many tasks, over one Redis connection.

    ``latest`` is asked once a second for the generations of all that are followed, so a lost ring is made good.
    """

    def __init__(self, latest: Latest) -> None:
        self._latest = latest
        self._followed: dict[str, _Followed] = {}
        self._ears: dict[str, asyncio.Task[None]] = {}
        self.ended = False

    @contextlib.contextmanager
    def follow(self, task_id: UUID, *, to_settle: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set whenever the task may have changed, and once when the hub begins to hear.

        ``to_settle``: only when it may have ended, or wait for its client; but also when the poll saw any change.
        """
        event = asyncio.Event()
        self._add(task_id, event, to_settle=to_settle)
        self._start()
        try:
            yield event
        finally:
            self._remove(task_id, event)

    @contextlib.contextmanager
    def follow_all(self, task_ids: Iterable[UUID]) -> Iterator[Group]:
        """A group of these tasks; all of them may have changed when the hub begins to hear, or polls first."""
        group = Group()
        members = [_Member(group, task_id) for task_id in task_ids]
        for member in members:
            self._add(member.id, member)
        self._start()
        try:
            yield group
        finally:
            for member in members:
                self._remove(member.id, member)

    def follows(self, task_id: UUID) -> bool:
        """Whether somebody follows this task now."""
        return str(task_id) in self._followed

    def end(self) -> None:
        """Wakes everybody who follows anything: this process is about to end, see :attr:`ended`."""
        self.ended = True
        self._wake(self._followed.values())

    async def close(self) -> None:
        ears = set(self._ears.values())
        while ears:
            for ear in ears:
                ear.cancel()  # again and again: one that comes while the client library connects may be swallowed
            _, ears = await asyncio.wait(ears, timeout=CANCEL_AGAIN_S)

    def _add(self, task_id: UUID, waker: _Waker, *, to_settle: bool = False) -> None:
        self._followed.setdefault(str(task_id), _Followed(task_id)).events[waker] = to_settle

    def _remove(self, task_id: UUID, waker: _Waker) -> None:
        key = str(task_id)
        followed = self._followed[key]
        del followed.events[waker]
        if not followed.events:
            del self._followed[key]

    def _start(self) -> None:
        wanted = {"poll": self._poll, "hear": self._hear} if settings.REDIS_URL else {"poll": self._poll}
        for name, run in wanted.items():
            if name not in self._ears or self._ears[name].done():
                self._ears[name] = asyncio.create_task(run())

    async def _hear(self) -> None:
        while True:
            try:
                client = redis.asyncio.Redis.from_url(settings.REDIS_URL, **ASYNC)
                async with client, client.pubsub() as pubsub:
                    await pubsub.subscribe(prefixed(TASKS))
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            self._heard(message["data"].decode())
                        else:  # subscribed: what was rung before was not heard
                            self._wake(self._followed.values())
            except (redis.RedisError, OSError) as error:
                log.warning("the doorbell is out of order, polling: %s", type(error).__name__)
                await asyncio.sleep(RETRY_S)

    def _heard(self, text: str) -> None:
        for word in text.split():
            settled = word.startswith(SETTLED)
            followed = self._followed.get(word[len(SETTLED) :] if settled else word)
            for event, to_settle in followed.events.items() if followed else ():
                if settled or not to_settle:
                    event.set()

    def _wake(self, followed: Iterable[_Followed]) -> None:
        for each in followed:
            for event in each.events:
                event.set()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            if not self._followed:
                continue
            try:
                latest = await self._latest([followed.id for followed in self._followed.values()])
            except Exception as error:
                log.warning("could not poll the followed tasks: %s", error)
                continue
            for task_id, generation in latest.items():
                followed = self._followed.get(str(task_id))
                if followed is not None and followed.seen != generation:
                    followed.seen = generation
                    self._wake([followed])
