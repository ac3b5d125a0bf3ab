"""The items of a batch: checked one by one, stored in lists, and those that cannot be told of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

import uuid_utils.compat
from django.db import transaction
from django.db.utils import DataError, IntegrityError

from artifacts_app.blobs import Stored
from tasks_app import engine, filing, intake, reads
from tasks_app.a2a.errors import A2AError, InvalidParamsError, ResourceExhaustedError, invalid, violations
from tasks_app.authentication import Caller, Forbidden
from tasks_app.engine import Created, NewTask
from tasks_app.submissions import submission

#: As many tasks are stored in a statement, or as many bytes of messages.
CHUNK, CHUNK_BYTES = 500, 1_000_000
#: As many wrong items are told of where none was accepted.
TOLD_MAX = 100


@dataclass(frozen=True, slots=True)
class NotJSON:
    """An item that could not be read."""

    problem: str
    text: bytes


class Accepted(NamedTuple):
    """What is counted and rung for of a task that was created."""

    id: UUID
    agent: str
    lane: str
    priority: int
    client_id: int


class Filling:
    """Stores items as tasks of a batch, within the caller's transaction; ``atomic``: not after one that is wrong."""

    def __init__(
        self,
        batch_id: UUID,
        items: Collection[Any],
        caller: Caller,
        *,
        defaults: dict[str, Any],
        atomic: bool,
        put: Mapping[bytes, Stored],
    ) -> None:
        self._batch_id = batch_id
        self._items = items
        self._caller = caller
        self._defaults = defaults
        self._atomic = atomic
        #: Files of the items that are stored already, by their SHA-256.
        self._put = put
        #: Made before, so that one can need another.
        self._ids = [uuid_utils.compat.uuid7() for _ in items]
        self._owned = set(self._ids)
        self._chunk: dict[int, NewTask] = {}
        self._limit: ResourceExhaustedError | None = None
        #: What was accepted, and what became of each.
        self.tasks: list[Accepted] = []
        self.created: list[Created] = []
        #: What was not, by its place: the field and what is wrong with it.
        self._wrong: dict[int, tuple[str, str]] = {}

    @property
    def refused(self) -> list[dict[str, Any]]:
        """The items that were not accepted: ``{"index": …, "field": …, "message": …}``."""
        wrong = sorted(self._wrong.items())
        return [
            # What they repeat of the item may be what no database keeps.
            {"index": index, "field": field.replace("\0", "\ufffd"), "message": message.replace("\0", "\ufffd")}
            for index, (field, message) in wrong
        ]

    def fill(self) -> None:
        size_bytes = 0
        for index, item in enumerate(self._items):
            try:
                self._chunk[index] = task = self._task(index, item)
            except A2AError as error:
                self._refuse(index, error)
            except Forbidden as error:
                self._wrong[index] = ("agent", str(error))
            else:
                size_bytes += len(task.message)
            if len(self._chunk) >= CHUNK or size_bytes >= CHUNK_BYTES:
                self._flush()
                size_bytes = 0
        self._flush()

    def error(self) -> A2AError:
        """Why nothing is accepted."""
        refused = self.refused
        if self._limit is not None and all(wrong["field"] == self._limit.limit for wrong in refused):
            return self._limit
        told = [
            {"field": _path(wrong["index"], wrong["field"]), "message": wrong["message"]}
            for wrong in refused[:TOLD_MAX]
        ]
        wrong = f"{len(refused)} of {len(self._items)} tasks are wrong, and none was accepted"
        return InvalidParamsError(f"{wrong}; {told[0]['field']}: {told[0]['message']}", data={"errors": told})

    def _task(self, index: int, item: Any) -> NewTask:
        """What an item asks for. Raises A2AError or Forbidden."""
        if isinstance(item, NotJSON):
            raise invalid("body", f"is not JSON: {item.problem}")
        asked = {**self._defaults, **item} if isinstance(item, Mapping) else item
        if isinstance(asked, Mapping) and isinstance(asked.get("depends_on"), list):
            needs = [self._needed(index, number, value) for number, value in enumerate(asked["depends_on"])]
            asked = {**asked, "depends_on": needs}
        task = submission(asked, self._caller, method="batches.create")
        unknown = [needed for needed in task.depends_on if needed not in self._owned]
        if unknown:
            self._owned |= engine.run(reads.owned, unknown, client_id=self._caller.client_id)
            intake.check_needs(task.depends_on, self._owned, path="depends_on")
        return filing.filed(replace(task, id=self._ids[index], batch_id=self._batch_id, batch_index=index), self._put)

    def _needed(self, index: int, number: int, value: Any) -> Any:
        """The id of a task that is named by its place, which must be before: so none can need itself in the end."""
        if type(value) is not int:
            return value
        path = f"depends_on[{number}]"
        if not 0 <= value < index:
            raise invalid(path, "must be the place of a task before this one")
        if value in self._chunk and not self._atomic:
            self._flush()
        if value in self._wrong:
            raise invalid(path, f"task {value} was refused")
        return str(self._ids[value])

    def _flush(self) -> None:
        items, self._chunk = list(self._chunk.values()), {}
        self._store(items)

    def _store(self, items: list[NewTask]) -> None:
        """Stores what can be stored: a value that the database does not take makes only its own item a wrong one."""
        if not items or (self._wrong and self._atomic):
            return
        verb = engine.create if self._caller.max_queued is None else engine.create_within
        try:
            with transaction.atomic():
                created = engine.run(verb, items)
        except (DataError, IntegrityError) as error:
            if len(items) == 1:
                self._wrong[_place(items[0])] = ("", f"cannot be stored: {error}"[:300])
                return
            middle = len(items) // 2
            self._store(items[:middle])
            self._store(items[middle:])
            return
        for item, made in zip(items, created, strict=True):
            self._created(item, made)

    def _created(self, item: NewTask, made: Created) -> None:
        try:
            intake.accepted(made, self._caller)
            if made.repeated:
                raise invalid("message.messageId", f"was used before, for task {made.task_id}")
        except A2AError as error:
            self._refuse(_place(item), error)
        else:
            self.tasks.append(Accepted(item.id, item.agent, item.lane, item.priority, item.client_id))
            self.created.append(made)

    def _refuse(self, index: int, error: A2AError) -> None:
        if isinstance(error, ResourceExhaustedError):
            self._limit = error
        (wrong,) = violations(error)
        self._wrong[index] = ("" if wrong["field"] == "body" else wrong["field"], wrong["message"])


def _place(item: NewTask) -> int:
    return -1 if item.batch_index is None else item.batch_index


def _path(index: int, field: str) -> str:
    return f"tasks[{index}].{field}" if field else f"tasks[{index}]"
