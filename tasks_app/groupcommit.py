"""Group commit (D3): callers that arrive together are written together. Knows nothing of tasks.

One flusher per process and kind of write, on that process's event loop, with a connection of its own. While a batch is
being written the next one gathers, so a lone caller waits for nobody and a crowd shares one statement.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Flush = Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]

#: A batch is cut at this many items, or at this many bytes.
MAX_ITEMS = 500
MAX_BYTES = 1_000_000


class Flusher(Generic[Item, Result]):
    """Gathers items and writes them in batches, first in, first out.

    ``flush`` writes a list and returns a result for each item, in order. ``is_poison`` tells an error that one bad item
    caused: the batch is then halved until the bad one stands alone and only its caller sees the error.
    ``max_items`` is how many go together at most.
    """

    def __init__(
        self,
        flush: Flush[Item, Result],
        *,
        is_poison: Callable[[Exception], bool] = lambda error: False,
        size_bytes: Callable[[Item], int] = lambda item: 0,
        max_items: int = MAX_ITEMS,
    ) -> None:
        self._flush = flush
        self._is_poison = is_poison
        self._size_bytes = size_bytes
        self._max_items = max_items
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """The item's result, once its batch has committed. Raises what ``flush`` raised for it."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await future

    async def drain(self) -> None:
        """Returns when nothing waits any more."""
        while self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer])

    async def _write(self) -> None:
        while self._waiting:
            batch = self._take()
            await self._settle([item for item, _ in batch], [future for _, future in batch])

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        size_bytes = 0
        while self._waiting and len(batch) < self._max_items and size_bytes < MAX_BYTES:
            batch.append(self._waiting.popleft())
            size_bytes += self._size_bytes(batch[-1][0])
        return batch

    async def _settle(self, items: list[Item], futures: list[asyncio.Future[Result]]) -> None:
        try:
            results = await self._flush(items)
            if len(results) != len(items):
                raise RuntimeError(f"{len(results)} results for {len(items)} items")
        except Exception as error:
            if len(items) > 1 and self._is_poison(error):
                middle = len(items) // 2
                await self._settle(items[:middle], futures[:middle])
                await self._settle(items[middle:], futures[middle:])
                return
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in zip(futures, results, strict=True):
            if not future.done():
                future.set_result(result)
