"""The doorbell: Redis pub/sub that says «look», never what to see. Whoever waits polls as well, at most a second apart.

Losing any of it costs latency only. Channels: ``a2a:dispatch`` rings the dispatcher, ``a2a:tasks`` whoever follows one
of the tasks it names, ``a2a:worker:<name>`` a worker that must stop something.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks_app.engine import Cancelled, Delivered, Moved, Submitted, Write, Written
from tasks_app.prefix import prefixed
from tasks_app.status import AT_REST, TERMINAL, TaskStatus

log = logging.getLogger(__name__)

DISPATCH = "a2a:dispatch"
#: Rung with the ids of tasks that have changed. One channel for all: a web process reads one line for many tasks, and
#: subscribes to nothing for each that it follows.
TASKS = "a2a:tasks"
#: Stands before the id of a task that has ended or waits for its client: those who only wait for that look then.
SETTLED = "!"
#: Rung to the dispatcher: limits, pauses or workers have changed.
LOOK = "look"
#: Rung to the dispatcher with a priority: tasks have come, none more urgent than that. With the rest of a group,
#: ``new:<priority>:<lane>:<client>:<agent>``: they are of that group.
NEW = "new"
#: More groups than these are rung for as one.
GROUPS_MAX = 20
POLL_S = 1.0
#: After a failure the bell is left alone this long, so that a Redis that is away slows nobody down.
RETRY_S = 1.0
_TIMEOUTS: dict[str, Any] = {"socket_timeout": 1.0, "socket_connect_timeout": 0.5}
#: For clients: the library would try eleven times, each time as long, and hold up whoever rings or listens.
_SYNC: dict[str, Any] = {**_TIMEOUTS, "retry": Retry(NoBackoff(), 0)}
ASYNC: dict[str, Any] = {**_TIMEOUTS, "retry": AsyncRetry(NoBackoff(), 0)}

Ring = tuple[str, str]


def worker_channel(name: str) -> str:
    return f"a2a:worker:{name}"


def rings(lane: str, task_ids: Iterable[UUID], *, freed: int = 0, settled: bool = False) -> list[Ring]:
    """What to ring after tasks of a lane changed; ``freed`` slots became free by it.

    ``settled``: they have ended, or wait for their clients.
    """
    mark = SETTLED if settled else ""
    bells = [(TASKS, f"{mark}{task_id}") for task_id in task_ids]
    return [*bells, (DISPATCH, f"{lane}:{freed}")] if freed else bells


def written(lane: str, item: Write, result: Written) -> list[Ring]:
    """What to ring after a write of an attempt; one that ends it has freed its slot, accepted or not."""
    changed = [item.task_id] if result.accepted else []
    settled = result.status in AT_REST
    return rings(lane, changed, freed=1 if item.finish else 0, settled=settled)


def moved(tasks: Iterable[Moved]) -> list[Ring]:
    """What to ring after somebody else than their attempts moved these tasks on: each has freed a slot."""
    return [
        ring for task in tasks for ring in rings(task.lane, [task.task_id], freed=1, settled=task.status in TERMINAL)
    ]


def ended(tasks: Iterable[Moved]) -> list[Ring]:
    """What to ring after these tasks ended that never ran."""
    return [ring for task in tasks for ring in rings(task.lane, [task.task_id], settled=True)]


def arrived(priorities: Iterable[int]) -> list[Ring]:
    """What to ring after tasks of these priorities have come, whatever their groups."""
    most_urgent = min(priorities, default=None)
    return [] if most_urgent is None else [(DISPATCH, f"{NEW}:{most_urgent}")]


def accepted(tasks: Iterable[Submitted]) -> list[Ring]:
    """What to ring after these tasks were accepted."""
    groups = {(task.priority, task.lane, task.client_id, task.agent) for task in tasks}
    if len(groups) > GROUPS_MAX:
        return arrived(group[0] for group in groups)
    return [(DISPATCH, ":".join((NEW, *map(str, group)))) for group in sorted(groups)]


def delivered(messages: Sequence[Delivered]) -> list[Ring]:
    """What to ring after these messages came: whoever follows the task, and the dispatcher for one that may run."""
    new = [message for message in messages if message.accepted]
    bells = [ring for message in new for ring in rings(message.lane, [message.task_id])]
    return bells + accepted(message for message in new if message.status == TaskStatus.PENDING)


def cancelled(tasks: Sequence[Cancelled]) -> list[Ring]:
    """What to ring after these were cancelled: whoever follows one, and the workers that must stop a handler."""
    bells = [ring for task in tasks for ring in rings(task.lane, [task.task_id], settled=True)]
    return bells + [(worker_channel(name), "") for name in sorted({task.worker for task in tasks} - {""})]


def merged(bells: Iterable[Ring]) -> list[Ring]:
    """The same rings in as few: each text of a channel once, all tasks in one, the freed slots of each lane in one sum,
    the most urgent arrival."""
    freed: Counter[str] = Counter()
    channels: dict[Ring, None] = {}
    tasks: dict[str, None] = {}
    new: list[int] = []
    for channel, text in bells:
        lane, _, count = text.partition(":")
        if channel == TASKS:
            tasks[text] = None
        elif channel == DISPATCH and lane == NEW and count.isdigit():
            new.append(int(count))
        elif channel == DISPATCH and count and lane != NEW:
            freed[lane] += int(count)
        else:
            channels[channel, text] = None
    told = [(TASKS, " ".join(tasks))] if tasks else []
    return [*told, *channels, *((DISPATCH, f"{lane}:{count}") for lane, count in freed.items()), *arrived(new)]


class Bell:
    """Rings from synchronous code. Never raises; one per process, safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: redis.connection.ConnectionInterface | None = None
        self._unread = 0
        self._quiet_until = 0.0

    def ring(self, bells: Iterable[Ring]) -> None:
        bells = merged(bells)
        if not bells or not settings.REDIS_URL or time.monotonic() < self._quiet_until:
            return
        try:
            with self._lock:
                self._send(bells)
        except (redis.RedisError, OSError) as error:
            self._connection = None
            self._quiet_until = time.monotonic() + RETRY_S
            log.warning("the doorbell is out of order, everybody polls: %s", type(error).__name__)

    def reset(self) -> None:
        """Forgets the connection and the lock, which another thread may hold: a forked child must make its own."""
        self._lock = threading.Lock()
        self._connection = None

    def _send(self, bells: list[Ring]) -> None:
        """Sends without waiting for the answers: those to the last ring are here by now, and are read first."""
        line = self._connection
        if line is None:
            line = redis.ConnectionPool.from_url(settings.REDIS_URL, **_TIMEOUTS).make_connection()
            line.connect()  # type: ignore[no-untyped-call]
            self._connection, self._unread = line, 0
        while self._unread:
            line.read_response()
            self._unread -= 1
        commands = [("PUBLISH", prefixed(channel), text) for channel, text in bells]
        line.send_packed_command(line.pack_commands(commands))  # type: ignore[no-untyped-call]
        self._unread = len(commands)


bell = Bell()


class AsyncBell:
    """Rings from an event loop; what is rung while a ring is on its way goes with the next. Never raises."""

    def __init__(self) -> None:
        self._client: redis.asyncio.Redis | None = None
        self._waiting: list[Ring] = []
        self._ringer: asyncio.Task[None] | None = None

    def ring(self, bells: Iterable[Ring]) -> None:
        if not settings.REDIS_URL:
            return
        self._waiting.extend(bells)
        if self._waiting and (self._ringer is None or self._ringer.done()):
            self._ringer = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            bells, self._waiting = merged(self._waiting), []
            try:
                if self._client is None:
                    self._client = redis.asyncio.Redis.from_url(settings.REDIS_URL, **ASYNC)
                pipe = self._client.pipeline(transaction=False)
                for channel, text in bells:
                    pipe.publish(prefixed(channel), text)
                await pipe.execute()
            except (redis.RedisError, OSError) as error:
                log.warning("the doorbell is out of order, everybody polls: %s", type(error).__name__)
                self._waiting.clear()
                await asyncio.sleep(RETRY_S)


class Ear:
    """Hears one channel from synchronous code: the dispatcher, a worker's heartbeat."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._pubsub: redis.client.PubSub | None = None
        self._quiet_until = 0.0

    def wait(self, timeout_s: float) -> list[str]:
        """The texts rung since the last call; waits at most ``timeout_s`` for the first. Sleeps if Redis is away.

        A Redis that takes connections and answers nothing may hold it up longer; it is then left alone for as long.
        """
        began_at = time.monotonic()
        if not settings.REDIS_URL or began_at < self._quiet_until:
            time.sleep(timeout_s)
            return []
        try:
            pubsub = self._subscribed()
            heard = [pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_s)]
            while heard[-1] is not None:
                heard.append(pubsub.get_message(ignore_subscribe_messages=True, timeout=0))
            return [message["data"].decode() for message in heard if message is not None]
        except (redis.RedisError, OSError) as error:
            log.warning("the doorbell is out of order, polling: %s", type(error).__name__)
            self.close()
            over_s = time.monotonic() - began_at - timeout_s
            time.sleep(max(0.0, -over_s))
            self._quiet_until = time.monotonic() + over_s
            return []

    def close(self) -> None:
        if self._pubsub is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                self._pubsub.close()
            self._pubsub = None

    def _subscribed(self) -> redis.client.PubSub:
        if self._pubsub is None:
            client = redis.Redis.from_url(settings.REDIS_URL, **_SYNC)
            pubsub = client.pubsub()  # type: ignore[no-untyped-call]
            pubsub.subscribe(prefixed(self._channel))
            message = pubsub.get_message(timeout=1.0)
            if message is None or message["type"] != "subscribe":
                raise redis.ConnectionError("no answer to subscribe")
            self._pubsub = pubsub
        return self._pubsub
