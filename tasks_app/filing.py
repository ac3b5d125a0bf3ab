"""Puts the files of a client's message where contents stand, before the engine accepts it. Waits for the storage."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TypeVar

from a2a.types import Message, Part
from django.db import connection

from artifacts_app import blobs
from tasks_app.a2a.errors import ResourceExhaustedError
from tasks_app.engine import FollowUp, NewTask, files
from tasks_app.engine.core import on_storage_thread

T = TypeVar("T", NewTask, FollowUp)
#: What a client is told to wait before it tries again, in seconds.
RETRY_S = 5.0


def is_heavy(item: NewTask | FollowUp) -> bool:
    """Whether its message may hold a file that is to stand elsewhere."""
    return not blobs.is_inline(len(item.message))


def filed(item: T) -> T:
    """The same message, with addresses in place of its files. Raises ResourceExhaustedError where the storage fails."""
    if not is_heavy(item):
        return item
    message = Message.FromString(item.message)
    parts = [part for part in message.parts if _goes(part)]
    if not parts:
        return item
    try:
        for part in parts:
            # Rows of blobs are committed before their bytes are written, whatever transaction the caller is in.
            put = blobs.put if not connection.in_atomic_block else on_storage_thread(blobs.put)
            part.url = files.address(put(part.raw))
    except blobs.StorageFailed as error:
        raise ResourceExhaustedError("storage", f"{error}; nothing was accepted", retry_after_s=RETRY_S) from error
    said_sha256 = hashlib.sha256(item.message).digest()
    return replace(item, message=message.SerializeToString(deterministic=True), said_sha256=said_sha256)


def _goes(part: Part) -> bool:
    return part.WhichOneof("content") == "raw" and not blobs.is_inline(len(part.raw))
