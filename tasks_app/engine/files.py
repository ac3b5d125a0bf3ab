"""Files of clients' messages that stand in blobs: in the message there is an address in place of the bytes.

``a2a-blob:<id of the blob>?<its length>``: of our own making, which no client may say. It leads to what its task's
``MessageFile`` names and nowhere else, whoever has written it into a message. Of a file that was sent by itself, what
the client said follows: ``#<its address>``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from a2a.types import Message, Part
from django.conf import settings

from artifacts_app.blobs import Stored
from artifacts_app.models import STORED
from tasks_app.addresses import file_path
from tasks_app.engine.core import Contents, Statement, Steps

SCHEME = "a2a-blob:"
_MARK = SCHEME.encode()
_ADDRESS = re.compile(rf"{SCHEME}([0-9a-f-]{{36}})\?(\d+)(?:#(.*))?", re.DOTALL)

#: Of a statement that accepts messages: what they name of blobs. To be formatted with the tasks that it is of.
NAMED = """, file AS (
    INSERT INTO artifacts_app_messagefile (task_id, blob_id)
    SELECT f.task_id, f.blob_id FROM unnest(%(f_task_id)s::uuid[], %(f_blob_id)s::uuid[]) AS f(task_id, blob_id)
    {where}
    ON CONFLICT DO NOTHING
)"""
FILES = f"""
SELECT file.task_id, {STORED} FROM artifacts_app_messagefile file JOIN artifacts_app_blob blob ON blob.id = file.blob_id
WHERE file.task_id = ANY(%(task_id)s::uuid[])
"""  # noqa: S608 (only constants are put in)


class Address(NamedTuple):
    """The blob whose bytes a part is of, how many they are, and the address that its client said, if it said one."""

    blob_id: UUID
    size_bytes: int
    said: str

    @property
    def for_client(self) -> str:
        """Where its client finds it."""
        return self.said or file_path(self.blob_id)


def address(stored: Stored, *, said: str = "") -> str:
    """What stands in a message in place of the bytes."""
    return f"{SCHEME}{stored.id}?{stored.size_bytes}{'#' if said else ''}{said}"


def addressed(part: Part) -> Address | None:
    """What the part is of, if it is of a blob."""
    found = _ADDRESS.fullmatch(part.url) if part.WhichOneof("content") == "url" else None
    return Address(UUID(found[1]), int(found[2]), found[3] or "") if found else None


def are_in(message: bytes) -> bool:
    """Whether an address may stand in the message."""
    return _MARK in message


def named(message: bytes) -> list[UUID]:
    """The blobs whose addresses stand in the message."""
    if not are_in(message):
        return []
    parts = Message.FromString(message).parts
    return list(dict.fromkeys(found.blob_id for part in parts if (found := addressed(part))))


def bound(named_by: Sequence[tuple[UUID, Sequence[UUID]]]) -> dict[str, list[Any]]:
    """The parameters of :data:`NAMED`: the blobs that each task's message names."""
    pairs = [(task_id, blob_id) for task_id, blob_ids in named_by for blob_id in blob_ids]
    return {"f_task_id": [task_id for task_id, _ in pairs], "f_blob_id": [blob_id for _, blob_id in pairs]}


def filled(
    said: Sequence[tuple[UUID, Sequence[bytes]]], *, for_handler: bool = False, budget_bytes: int | None = None
) -> Steps[list[tuple[bytes, ...]]]:
    """The messages of each task as their client said them.

    Files are put in as long as those of a task have at most ``A2A_MAX_ARTIFACT_BYTES`` together, and all of them
    ``budget_bytes``. In place of others, and of those whose bytes cannot be had, stands an address of the client's.
    ``for_handler``: of the first our own; the second raise OSError.
    """
    task_ids = [task_id for task_id, messages in said if any(map(are_in, messages))]
    found: dict[UUID, dict[UUID, Stored]] = {}
    for task_id, *stored in (yield Statement(FILES, {"task_id": task_ids})) if task_ids else ():
        found.setdefault(task_id, {})[stored[0]] = Stored(*stored)
    done: list[tuple[bytes, ...]] = []
    left_bytes = float("inf") if budget_bytes is None else budget_bytes
    for task_id, messages in said:
        filling = _Filling(found.get(task_id, {}), min(left_bytes, settings.A2A_MAX_ARTIFACT_BYTES), for_handler)
        whole: list[bytes] = []
        for each in messages:
            whole.append((yield from filling.filled(each)) if filling.files and are_in(each) else each)
        left_bytes -= filling.used_bytes
        done.append(tuple(whole))
    return done


@dataclass(slots=True)
class _Filling:
    """Fills the messages of a task with its files, as far as they fit."""

    files: Mapping[UUID, Stored]
    left_bytes: float
    for_handler: bool
    used_bytes: int = 0

    def filled(self, said: bytes) -> Steps[bytes]:
        message = Message.FromString(said)
        for part in message.parts:
            where = addressed(part)
            if where is None or where.blob_id not in self.files:
                continue
            content = None
            if self.used_bytes + where.size_bytes <= self.left_bytes:
                wanted = Contents([self.files[where.blob_id]], or_none=not self.for_handler)
                content = (yield wanted)[0][0]
            if content is not None:
                part.raw = content
                self.used_bytes += len(content)
            elif not self.for_handler:
                part.url = where.for_client
        return bytes(message.SerializeToString(deterministic=True))


def as_said(message: Message) -> Message:
    """A copy of a handler's message for those who know nothing of our addresses: with its client's in their place."""
    copied: Message = Message.FromString(message.SerializeToString())
    for part in copied.parts:
        where = addressed(part)
        if where is not None:
            part.url = where.for_client
    return copied


def stored_of(task_id: UUID) -> Steps[dict[UUID, Stored]]:
    """The files of a task's messages, by their blobs' ids."""
    return {row[1]: Stored(*row[1:]) for row in (yield Statement(FILES, {"task_id": [task_id]}))}
