"""Many tasks in one request: all of them or none, or those that are right. One way for every door."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

import orjson
from a2a.types import TaskPushNotificationConfig
from asgiref.sync import async_to_sync
from django.db import transaction

from artifacts_app.blobs import Stored
from tasks_app import engine, filing, metrics, throttle
from tasks_app.a2a import parse
from tasks_app.a2a.errors import invalid
from tasks_app.authentication import Caller
from tasks_app.batch_items import Filling, NotJSON
from tasks_app.engine import NewBatch, Tally, core
from tasks_app.models import Batch
from tasks_app.nesting import DEPTH_MAX, is_too_deep
from tasks_app.push import configs, wire
from tasks_app.push.guard import guard
from tasks_app.push.values import NewPush
from tasks_app.submissions import check_names
from tasks_app.wakeups import accepted, bell

FIELDS = ("name", "metadata", "defaults", "atomic", "callback", "tasks")
SIZE_MAX = 10_000
NAME_MAX_CHARS = KEY_MAX_CHARS = 256
#: With what a line begins that is meant to say something of the batch itself, though it may not be JSON.
HEAD = b'{"batch"'


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What is asked for; the items are checked when they are stored.

    ``defaults`` are the fields of every item that does not say otherwise. ``atomic``: one wrong item and none is
    accepted. ``callback`` is where it is told that the batch is complete. ``key`` is the client's idempotency key,
    ``digest`` the SHA-256 of the whole request.
    """

    name: str
    metadata: dict[str, Any]
    defaults: dict[str, Any]
    atomic: bool
    callback: NewPush | None
    items: Collection[Any]
    key: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The batch that stands for a request; ``repeated``: since before."""

    batch_id: UUID
    repeated: bool = False


def lines(stream: Iterable[bytes]) -> tuple[dict[str, Any], Iterator[bytes]]:
    """A batch as NDJSON: what the first line says of it if that is ``{"batch": {…}}``, with all fields but the tasks;
    and the lines with a task each, as they are read. Raises InvalidParamsError for a first line that is wrong."""
    rest = (line for line in stream if line.strip())
    first = next(rest, b"")
    data = item(first) if first else None
    if not first.lstrip().startswith(HEAD) and not (isinstance(data, dict) and "batch" in data):
        return {}, chain([first] if first else (), rest)
    said = data.get("batch") if isinstance(data, dict) and data.keys() == {"batch"} else None
    if not isinstance(said, dict) or "tasks" in said:
        raise invalid("body", 'the first line must be {"batch": {…}} without tasks, or a task')
    return said, rest


def item(line: bytes) -> Any:
    """What a line says; one that says nothing is told of as a task that is wrong."""
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return NotJSON(str(error), line)
    return NotJSON(f"nested deeper than {DEPTH_MAX} levels", line) if is_too_deep(data) else data


def asked(data: Any, *, key: str = "", digest: bytes | None = None) -> BatchRequest:
    """What a body asks for, whose SHA-256 is ``digest`` if it is known.

    Raises InvalidParamsError naming the field that is unknown, missing or wrong.
    """
    if not isinstance(data, Mapping):
        raise invalid("body", "must be a JSON object")
    check_names(data, FIELDS)
    items = data.get("tasks")
    if not isinstance(items, Collection) or isinstance(items, str | Mapping) or not items:
        raise invalid("tasks", "is required and must be a list of at least one task")
    if len(items) > SIZE_MAX:
        raise invalid("tasks", f"may hold at most {SIZE_MAX} tasks; there are {len(items)}")
    atomic = data.get("atomic", True)
    if not isinstance(atomic, bool):
        raise invalid("atomic", "must be true or false")
    metadata = parse.json_object(data.get("metadata"), path="metadata")
    if parse.has_nul(metadata):
        raise invalid("metadata", "may not hold NUL characters")
    return BatchRequest(
        name=_text(data.get("name", ""), "name", NAME_MAX_CHARS),
        metadata=metadata,
        defaults=parse.json_object(data.get("defaults"), path="defaults"),
        atomic=atomic,
        callback=_callback(data.get("callback")),
        items=items,
        key=_text(key, "Idempotency-Key", KEY_MAX_CHARS),
        digest=digest or hashlib.sha256(orjson.dumps(data, default=_bare, option=orjson.OPT_SORT_KEYS)).digest(),
    )


def make(request: BatchRequest, caller: Caller) -> Made:
    """The batch with its tasks, durable when this returns, or nothing of it; or the one of the same key before.

    Raises InvalidParamsError that names the wrong items, where one may not be or none is right, or the key, where it
    was used for another request; ResourceExhaustedError at a limit of the client's.
    """
    new = NewBatch(
        client_id=caller.client_id,
        digest=request.digest,
        size=len(request.items),
        key=request.key,
        name=request.name,
        metadata=request.metadata,
    )
    known = engine.run(engine.find_batch, new)
    if known is not None:
        return _known(known)
    throttle.check(caller, len(request.items))
    put = filing.put_all(request.items)
    return core.retried(lambda: _made(new, request, caller, put))


def tallies(found: Sequence[Batch]) -> dict[UUID, Tally]:
    """How the tasks of each of these batches stand, or stood when it was completed."""
    known = engine.run(engine.tally, [batch.id for batch in found if batch.counts is None])
    for batch in found:
        if batch.counts is not None:
            known[batch.id] = Tally(counts=batch.counts, progress=sum(batch.counts.values()))
    return known


def _made(new: NewBatch, request: BatchRequest, caller: Caller, put: Mapping[bytes, Stored]) -> Made:
    filling = Filling(new.id, request.items, caller, defaults=request.defaults, atomic=request.atomic, put=put)
    with transaction.atomic():
        opened = engine.run(engine.open_batch, new)
        if opened.batch_id != new.id or opened.conflict:
            return _known(opened)
        filling.fill()
        if filling.refused:
            if request.atomic or not filling.tasks:
                raise filling.error()
            engine.run(engine.refuse, new.id, filling.refused)
        if request.callback is not None:
            engine.run(configs.create_of_batch, new.id, request.callback)
    metrics.created(filling.tasks, filling.created)
    bell.ring(accepted(filling.tasks))
    return Made(batch_id=new.id)


def _callback(data: Any) -> NewPush | None:
    """The webhook that a request names, as A2A's push notification configs do; it may go where theirs may."""
    if data is None:
        return None
    config = parse.proto(data, TaskPushNotificationConfig(), path="callback")
    if config.task_id:
        raise invalid("callback.taskId", "must be empty: it is the batch's")
    push = wire.asked(config, path="callback.")
    async_to_sync(wire.screen)(push, guard(), path="callback.")
    return push


def _known(opened: engine.Opened) -> Made:
    if opened.conflict:
        raise invalid("Idempotency-Key", "was used before, for another request")
    return Made(batch_id=opened.batch_id, repeated=True)


def _text(value: Any, path: str, most: int) -> str:
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise invalid(path, f"must be a text of at most {most} characters, all of them printable")
    return value


def _bare(item: Any) -> str:
    return item.text.hex() if isinstance(item, NotJSON) else str(item)
