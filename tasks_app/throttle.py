"""How many tasks a client may submit per second: counted in Redis for all processes, in this one while Redis is away.

The counters may be lost; a client may then submit a little more. Only a client that has a rate costs anything: until
one submits, nothing is imported, connected or asked.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks_app.a2a.errors import ResourceExhaustedError
from tasks_app.authentication import Caller
from tasks_app.prefix import prefixed

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.aio.strategies import SlidingWindowCounterRateLimiter as AsyncLimiter
    from limits.strategies import MovingWindowRateLimiter, RateLimiter

log = logging.getLogger(__name__)

#: Over this long a rate is averaged, in seconds.
WINDOW_S = 60
#: After a failure Redis is left alone this long, in seconds, so that one that is away slows nobody down.
RETRY_S = 1.0
PREFIX = "a2a:rate"
#: A crowd shares a few connections; who gets none in time is counted as if Redis were away.
_OPTIONS: dict[str, Any] = {"max_connections": 8, "timeout": 1.0, "socket_timeout": 0.5, "socket_connect_timeout": 0.5}
#: Held while the process's own counters are made, so that threads that come together make them once.
_first = threading.Lock()
_FAILURES = (redis.RedisError, OSError)


def window(rate_per_s: float) -> tuple[int, int]:
    """A rate as so many in so many whole seconds: a minute, or as long as the slowest rates need for the first."""
    amount = math.ceil(rate_per_s * WINDOW_S)
    return amount, math.ceil(amount / rate_per_s)


class _Health:
    """Whether Redis is asked at all: not where there is none, and not right after it failed."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def asks(self) -> bool:
        return bool(settings.REDIS_URL) and time.monotonic() >= self._quiet_until

    def failed(self, error: Exception) -> None:
        self._quiet_until = time.monotonic() + RETRY_S
        log.warning("Redis is away, each process counts the submits that it sees: %s", type(error).__name__)


_health = _Health()


def check(caller: Caller, count: int = 1) -> None:
    """Counts a submit of so many tasks. Raises :class:`ResourceExhaustedError` if it is too many, which is not counted.

    One of more than a window holds needs a window of its own.
    """
    if caller.submit_rate_per_s is None:
        return
    item = _item(caller.submit_rate_per_s)
    if _health.asks():
        try:
            _hit(_shared(settings.REDIS_URL), item, caller, count)
            return
        except _FAILURES as error:
            _health.failed(error)
    _hit(_local(), item, caller, count)


class AsyncThrottle:
    """The same for one event loop."""

    def __init__(self) -> None:
        self._limiter: AsyncLimiter | None = None
        self._pool: redis.asyncio.BlockingConnectionPool | None = None

    async def check(self, caller: Caller) -> None:
        """As :func:`check`."""
        if caller.submit_rate_per_s is None:
            return
        item = _item(caller.submit_rate_per_s)
        if _health.asks():
            try:
                limiter = self._shared()
                if not await limiter.hit(item, _key(caller)):
                    raise _refusal(item, (await limiter.get_window_stats(item, _key(caller))).reset_time)
                return
            except _FAILURES as error:
                _health.failed(error)
        _hit(_local(), item, caller)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    def _shared(self) -> AsyncLimiter:
        if self._limiter is None:
            from limits.aio.storage import RedisStorage
            from limits.aio.strategies import SlidingWindowCounterRateLimiter

            retry = AsyncRetry(NoBackoff(), 1)
            self._pool = redis.asyncio.BlockingConnectionPool.from_url(settings.REDIS_URL, retry=retry, **_OPTIONS)
            kind: dict[str, Any] = {
                "implementation": "redispy",
                "connection_pool": self._pool,
                "key_prefix": prefixed(PREFIX),
            }
            self._limiter = SlidingWindowCounterRateLimiter(RedisStorage("async+redis://", **kind))
        return self._limiter


@cache
def _shared(url: str) -> RateLimiter:
    """The counters in Redis, for all threads."""
    from limits.storage import RedisStorage
    from limits.strategies import SlidingWindowCounterRateLimiter

    pool: Any = redis.BlockingConnectionPool.from_url(url, retry=Retry(NoBackoff(), 1), **_OPTIONS)
    return SlidingWindowCounterRateLimiter(RedisStorage("redis://", connection_pool=pool, key_prefix=prefixed(PREFIX)))


def _local() -> MovingWindowRateLimiter:
    """This process's own counters, the same for all threads; quick enough for an event loop."""
    with _first:
        return _in_memory()


@cache
def _in_memory() -> MovingWindowRateLimiter:
    """A moving window, because the library counts the other kind in memory without a lock."""
    from limits.storage import MemoryStorage
    from limits.strategies import MovingWindowRateLimiter

    return MovingWindowRateLimiter(MemoryStorage())


@cache
def _item(rate_per_s: float) -> RateLimitItem:
    from limits import RateLimitItemPerSecond

    amount, seconds = window(rate_per_s)
    return RateLimitItemPerSecond(amount, seconds, namespace="submit")


def _hit(limiter: RateLimiter, item: RateLimitItem, caller: Caller, count: int = 1) -> None:
    if not limiter.hit(item, _key(caller), cost=min(count, item.amount)):
        raise _refusal(item, limiter.get_window_stats(item, _key(caller)).reset_time)


def _key(caller: Caller) -> str:
    return str(caller.client_id)


def _refusal(item: RateLimitItem, free_at: float) -> ResourceExhaustedError:
    most = f"at most {item.amount} submits in {item.get_expiry()} s"
    return ResourceExhaustedError("submit_rate_per_s", most, retry_after_s=free_at - time.time())
