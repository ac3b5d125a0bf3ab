"""``GET /api/v1/batches/<id>/events/``: how all tasks of a batch stand, on one stream of server-sent events.

Not every event of every task: whoever follows thousands wants to know how each stands now. What a task went through
since it was last told of is told as one change; ``generation`` says which of two tellings is the newer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tasks_app import reads
from tasks_app.a2a import http, parse, sse
from tasks_app.a2a.errors import InvalidParamsError, violations
from tasks_app.authentication import Forbidden, Unauthenticated, check_scopes
from tasks_app.hub import Group
from tasks_app.reads import PlaceRecord
from tasks_app.status import TaskStatus
from tasks_app.wakeups import POLL_S
from tasks_app.web import KEEP_ALIVE_S, web

#: What changes within so long after the first change is told together, in seconds.
GATHER_S = 0.1
#: As many tasks are told of in one event.
TOLD_MAX = 500
#: A change may be committed so long after its own instant.
OVERLAP = timedelta(seconds=30)
#: An event's id is when its tasks were read, in ms since 1970, twice; and one more if all had ended.
_ID_MAX = 2 * int(datetime(2999, 1, 1, tzinfo=UTC).timestamp() * 1000)


async def events(request: Request) -> Response:
    """All its tasks as they stand, then those that change, until all have ended; after ``Last-Event-ID`` only what
    has changed since. 204 if nothing has, and all have ended."""
    given = request.path_params["batch_id"]
    batch_id = parse.uuid(given)
    try:
        caller = await http.caller(request)
        check_scopes(caller, write=False)
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    if batch_id is None or not await web().read(reads.is_batch, batch_id, client_id=caller.client_id):
        return http.refused(404, f"no batch '{given[:100]}'")
    try:
        last = http.last_event_id(request, what="one of a batch's stream", most=_ID_MAX)
    except InvalidParamsError as error:
        return http.refused(400, error.message, *violations(error))
    since = None if last is None else datetime.fromtimestamp((last >> 1) / 1000, UTC)
    if last is not None and last & 1 and _ended_before(await web().read(reads.places, batch_id), since):
        # What a browser takes as: there is nothing more, do not ask again.
        return Response(status_code=204)
    return sse.Stream(_follow(batch_id, since))


def _ended_before(places: Iterable[PlaceRecord], instant: datetime | None) -> bool:
    return instant is not None and all(
        place.completed_at is not None and place.completed_at < instant for place in places
    )


async def _follow(batch_id: UUID, since: datetime | None) -> AsyncIterator[bytes | None]:
    """Begins anew whenever reruns have taken places, since then other tasks are to be followed."""
    picture = _Picture(since)
    while not web().hub.ended:
        displaced = await web().read(reads.displaced, batch_id)
        task_ids = [place.task_id for place in await web().read(reads.places, batch_id)]
        with web().hub.follow_all(task_ids) as group:
            # Read after the subscription, so that no change falls between.
            for data in picture.told(await web().read(reads.places, batch_id)):
                yield data
            watch = _Watch(batch_id, group, displaced)
            while not (picture.ended or web().hub.ended or await watch.is_other()):
                changed = await watch.changed()
                for data in picture.told(await web().read(reads.places, batch_id, among=changed)) if changed else ():
                    yield data
                if watch.looks():
                    yield None
        if picture.ended and await web().read(reads.displaced, batch_id) == displaced:
            return


class _Watch:
    """Waits for changes of the tasks that hold a batch's places, and sees when others do."""

    def __init__(self, batch_id: UUID, group: Group, displaced: int) -> None:
        self._batch_id = batch_id
        self._group = group
        self._displaced = displaced
        self._looked_at = self._looked_for_at = time.monotonic()

    async def changed(self) -> list[UUID]:
        """The tasks that may have changed; none if for a second none has."""
        try:
            async with asyncio.timeout(POLL_S):
                await self._group.event.wait()
            await asyncio.sleep(GATHER_S)
        except TimeoutError:
            return []
        return self._group.take()

    async def is_other(self) -> bool:
        """Whether a rerun has taken a place; asked once a second."""
        if time.monotonic() < self._looked_at + POLL_S:
            return False
        self._looked_at = time.monotonic()
        return await web().read(reads.displaced, self._batch_id) != self._displaced

    def looks(self) -> bool:
        """Whether it is time to look if the client is still there, as a comment does, however much there is to say."""
        due = time.monotonic() > self._looked_for_at + KEEP_ALIVE_S
        if due:
            self._looked_for_at = time.monotonic()
        return due


class _Picture:
    """What the client knows: of each place, the task that holds it and how it stands."""

    def __init__(self, since: datetime | None) -> None:
        #: The client knows what was before; None once it has been told all that was after.
        self._since = None if since is None else since - OVERLAP
        self._places: dict[int, PlaceRecord] = {}
        self._counts: Counter[TaskStatus] = Counter()
        self._progress = 0.0
        self._open = 0
        self._was_read = False

    @property
    def ended(self) -> bool:
        return self._was_read and not self._open

    def told(self, places: list[PlaceRecord]) -> Iterator[bytes]:
        """The events that tell of what is new in these, and then how the whole stands."""
        news = [place for place in places if self._take(place)]
        self._was_read = True
        if self._since is not None:
            news, self._since = [place for place in news if place.updated_at >= self._since], None
        if not news:
            return
        for start in range(0, len(news), TOLD_MAX):
            data = [_task(place) for place in news[start : start + TOLD_MAX]]
            yield sse.event(None, orjson.dumps(data), name="tasks")
        # The id comes last: who has it was told of all that was read then.
        read_at_ms = int(news[0].read_at.timestamp() * 1000)
        yield sse.event(2 * read_at_ms + self.ended, orjson.dumps(self._whole()), name="batch")

    def _take(self, place: PlaceRecord) -> bool:
        """Puts it into the picture. Whether it was not there so."""
        before = self._places.get(place.index)
        if before is not None and before.task_id == place.task_id and before.generation >= place.generation:
            return False
        if before is not None:
            self._count(before, -1)
        self._places[place.index] = place
        self._count(place, 1)
        return True

    def _count(self, place: PlaceRecord, number: int) -> None:
        self._counts[place.status] += number
        self._progress += number * (place.progress if place.completed_at is None else 1.0)
        self._open += number * (place.completed_at is None)

    def _whole(self) -> dict[str, Any]:
        counts = {status.value: self._counts[status] for status in TaskStatus}
        return {"counts": counts, "progress": round(self._progress / len(self._places), 6), "ended": self.ended}


def _task(place: PlaceRecord) -> dict[str, Any]:
    return {
        "task_id": place.task_id,
        "index": place.index,
        "status": place.status,
        "progress": place.progress,
        "attempt": place.attempt,
        "generation": place.generation,
        "error": place.error,
        "updated_at": place.updated_at,
    }
