"""What the web process's event loop shares among requests: group commit, reads, and the doorbell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import orjson
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.db import connection
from psycopg_pool import AsyncConnectionPool

from tasks_app import engine, filing, metrics, reads
from tasks_app.authentication import Caller, identify, remembered
from tasks_app.database import OUTAGES, Line, conninfo, is_poison
from tasks_app.engine import Created, Delivered, FollowUp, NewTask
from tasks_app.engine.core import AsyncConnection, Steps, arun, in_storage_thread
from tasks_app.groupcommit import Flusher
from tasks_app.hub import Hub
from tasks_app.push import configs
from tasks_app.push.values import NewPush
from tasks_app.reads import Cursor, EventRecord, Heavy, TaskRecord, Wanted
from tasks_app.status import AT_REST, TERMINAL, TaskStatus
from tasks_app.throttle import AsyncThrottle
from tasks_app.waiting import Reason, waiting_for_each
from tasks_app.wakeups import AsyncBell, accepted, cancelled, delivered

T = TypeVar("T")
P = ParamSpec("P")
Message = TypeVar("Message", NewTask, FollowUp)
#: How long a stream says nothing, in seconds.
KEEP_ALIVE_S = 15.0
#: How many callers are identified at once at most, each in a thread of its own: those who do not know a key wait.
IDENTIFY_AT_ONCE = 8
#: How many tasks are read in one statement at most: each may have large artifacts.
READ_TOGETHER = 32


class Web:
    """One per event loop. Opened when first used, closed by the application's lifespan."""

    def __init__(self) -> None:
        self._line = Line()
        self._bell = AsyncBell()
        self._submits: Flusher[NewTask, Created] = Flusher(
            self._create_all, is_poison=is_poison, size_bytes=_size_bytes
        )
        # Of clients that may have no more than so many waiting: they wait for each other, and nobody else for them.
        self._limited_line = Line()
        self._limited: Flusher[NewTask, Created] = Flusher(
            self._create_limited, is_poison=is_poison, size_bytes=_size_bytes
        )
        self._tasks: Flusher[Wanted, TaskRecord | Heavy | None] = Flusher(
            self._read_tasks, is_poison=is_poison, max_items=READ_TOGETHER
        )
        self._waits: Flusher[UUID, list[Reason]] = Flusher(self._read_waits, is_poison=is_poison)
        self._statuses: Flusher[UUID, TaskStatus | None] = Flusher(self._read_statuses, is_poison=is_poison)
        self._events: Flusher[Cursor, list[EventRecord] | Heavy] = Flusher(self._read_events, is_poison=is_poison)
        self._fetching: dict[Cursor, asyncio.Future[list[list[EventRecord]]]] = {}
        self._pool: AsyncConnectionPool[AsyncConnection] | None = None
        self._opening = asyncio.Lock()
        self._throttle = AsyncThrottle()
        self._identifying = asyncio.Semaphore(IDENTIFY_AT_ONCE)
        self.hub = Hub(self._latest)

    async def close(self) -> None:
        await self._submits.drain()
        await self._limited.drain()
        await self.hub.close()
        await self._throttle.close()
        await self._line.close()
        await self._limited_line.close()
        if self._pool is not None:
            await self._pool.close()

    async def caller(self, headers: Mapping[str, str], peer: str | None) -> Caller:
        """Who asks. Raises :class:`tasks_app.authentication.Unauthenticated`."""
        caller = remembered(headers, peer)
        if caller is None:
            async with self._identifying:
                caller = remembered(headers, peer)
                if caller is None:
                    async with ThreadSensitiveContext():
                        caller = await sync_to_async(_identify)(headers, peer)
        return caller

    async def throttle(self, caller: Caller) -> None:
        """Counts a submit. Raises ResourceExhaustedError if its client submits too fast."""
        await self._throttle.check(caller)

    async def submit(self, item: NewTask) -> Created:
        """Accepts the task: when this returns, it is in PostgreSQL, or refused as :class:`Created` says.

        Raises ResourceExhaustedError where its files cannot be stored.
        """
        item = await _filed(item)
        return await (self._submits if item.max_queued is None else self._limited).submit(item)

    async def deliver(self, item: FollowUp, push: NewPush | None = None) -> Delivered:
        """Hands a message to its task: when this returns it is in PostgreSQL, or refused as the result says.

        With ``push``, a config for the task's events from this one on, which stands only if the message does. Raises
        :class:`tasks_app.push.configs.Full`, or as :meth:`submit`.
        """
        item = await _filed(item)
        if push is None:
            (done,) = await self.read(engine.deliver, [item])
        else:
            done = await self.read(configs.deliver_with, push, item, most=settings.A2A_PUSH_MAX_PER_TASK)
        self._bell.ring(delivered([done]))
        return done

    async def cancel(self, task_id: UUID, *, by: str) -> bool:
        """Cancels the task, and tells its worker. False if it had ended before."""
        try:
            done = await self._once(engine.request_cancel, [task_id], by=by)
        except OUTAGES:
            await self._renew()
            done = await self._once(engine.request_cancel, [task_id], by=by)
            if not done:
                # The first may have been done, and only its answer lost.
                return await self._statuses.submit(task_id) == TaskStatus.CANCELLED
        metrics.cancelled(done)
        self._bell.ring(cancelled(done))
        return bool(done)

    async def read(self, verb: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The verb's result, on a connection of the pool; tried once more if that was broken."""
        try:
            return await self._once(verb, *args, **kwargs)
        except OUTAGES:
            await self._renew()
            return await self._once(verb, *args, **kwargs)

    async def task(self, wanted: Wanted) -> TaskRecord | None:
        """The task, or None; those that are asked for together are read together.

        Where contents have to be fetched from a storage, nobody else waits for that.
        """
        found = await self._tasks.submit(wanted)
        if isinstance(found, Heavy):
            (found,) = await in_storage_thread(engine.run, reads.tasks_of, [wanted])
        return found

    async def waiting_for(self, task_id: UUID) -> list[Reason]:
        """Why the task waits; those that are asked about together are looked at together."""
        return await self._waits.submit(task_id)

    async def follow(self, task_id: UUID, *, after: int) -> AsyncIterator[EventRecord | None]:
        """The task's events past a generation, and then each as it comes; ends after the terminal one, or the hub.

        None whenever nothing came for :data:`KEEP_ALIVE_S`.
        """
        event: EventRecord | None = None
        with self.hub.follow(task_id) as changed:
            while not self.hub.ended:
                changed.clear()
                events = await self._events_past((task_id, after))
                for event in events:
                    after = event.generation
                    yield event
                    if event.kind == "status" and event.status in TERMINAL:
                        return
                more = bool(events) and events[-1].more
                event = None
                del events  # what they carry is not kept while nothing comes
                while not more and not await _is_set(changed):
                    yield None

    async def settled(
        self, wanted: Wanted, *, wait_s: float, changed: asyncio.Event, new: bool = False
    ) -> TaskRecord | None:
        """The task once it is terminal or interrupted, or after ``wait_s``; ``changed`` is the hub's event.

        Also when the hub has ended. One that is ``new`` is looked at when it has changed, not before.
        """
        try:
            async with asyncio.timeout(wait_s):
                while not self.hub.ended:
                    if new:
                        new = not await changed.wait()
                    changed.clear()
                    record = await self.task(wanted)
                    if record is None or record.status in AT_REST:
                        return record
                    await changed.wait()
        except TimeoutError:
            pass
        return await self.task(wanted)

    async def _once(self, verb: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        pool = await self._opened_pool()
        async with pool.connection() as conn:
            try:
                return await arun(conn, verb, *args, **kwargs)
            except OUTAGES:
                await conn.close()
                raise

    async def _renew(self) -> None:
        """Replaces the pool's connections that are broken."""
        await (await self._opened_pool()).check()

    async def _create_all(self, items: Sequence[NewTask]) -> list[Created]:
        return self._created(items, await self._line.run(engine.create, items))

    async def _create_limited(self, items: Sequence[NewTask]) -> list[Created]:
        return self._created(items, await self._limited_line.run(engine.create_within, items))

    def _created(self, items: Sequence[NewTask], created: list[Created]) -> list[Created]:
        metrics.created(items, created)
        self._bell.ring(accepted(items))
        return created

    async def _events_past(self, cursor: Cursor) -> list[EventRecord]:
        """The events; those with contents from a storage are fetched once for all who are at one place."""
        found = await self._events.submit(cursor)
        if not isinstance(found, Heavy):
            return found
        if cursor not in self._fetching:
            fetch = asyncio.ensure_future(in_storage_thread(engine.run, reads.events_of, [cursor]))
            self._fetching[cursor] = fetch
            fetch.add_done_callback(lambda _: self._fetching.pop(cursor))
        return (await asyncio.shield(self._fetching[cursor]))[0]

    async def _read_tasks(self, wanted: Sequence[Wanted]) -> list[TaskRecord | Heavy | None]:
        each = list(dict.fromkeys(wanted))
        found = dict(zip(each, await self.read(reads.light_tasks_of, each), strict=True))
        return [found[one] for one in wanted]

    async def _read_statuses(self, task_ids: Sequence[UUID]) -> list[TaskStatus | None]:
        found = await self.read(reads.statuses, list(set(task_ids)))
        return [found.get(task_id) for task_id in task_ids]

    async def _read_waits(self, task_ids: Sequence[UUID]) -> list[list[Reason]]:
        found = await self.read(waiting_for_each, list(dict.fromkeys(task_ids)))
        return [found.get(task_id, []) for task_id in task_ids]

    async def _read_events(self, cursors: Sequence[Cursor]) -> list[list[EventRecord] | Heavy]:
        """Those past each cursor: streams that are woken together read together, and those at one place share."""
        wanted = list(dict.fromkeys(cursors))
        found = dict(zip(wanted, await self.read(reads.light_events_of, wanted), strict=True))
        return [found[cursor] for cursor in cursors]

    async def _latest(self, task_ids: list[UUID]) -> dict[UUID, int]:
        return await self.read(reads.latest, task_ids)

    async def _opened_pool(self) -> AsyncConnectionPool[AsyncConnection]:
        async with self._opening:
            if self._pool is None:
                pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
                    kwargs={**conninfo(), "autocommit": True},
                    min_size=1,
                    max_size=settings.A2A_WEB_POOL_SIZE,
                    open=False,
                )
                await pool.open()
                self._pool = pool
        return self._pool


async def _filed(item: Message) -> Message:
    return await in_storage_thread(filing.filed, item) if filing.is_heavy(item) else item


async def _is_set(changed: asyncio.Event) -> bool:
    """Whether the event is set before :data:`KEEP_ALIVE_S` have passed."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_S):
            return await changed.wait()
    except TimeoutError:
        return False


def _size_bytes(item: NewTask) -> int:
    return len(item.message) + sum(len(orjson.dumps(said)) for said in (item.parameters, item.metadata) if said)


def _identify(headers: Mapping[str, str], peer: str | None) -> Caller:
    try:
        return identify(headers, peer)
    finally:
        connection.close()


_webs: dict[int, tuple[asyncio.AbstractEventLoop, Web]] = {}


def web() -> Web:
    """The Web of the running event loop."""
    loop = asyncio.get_running_loop()
    known = _webs.get(id(loop))
    if known is None or known[0] is not loop:
        known = _webs[id(loop)] = (loop, Web())
    return known[1]


async def close_web() -> None:
    """Closes the running loop's Web, if there is one."""
    known = _webs.pop(id(asyncio.get_running_loop()), None)
    if known is not None:
        await known[1].close()
