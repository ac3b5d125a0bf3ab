"""Puts the files of a client's message where contents stand, before the engine accepts it. Waits for the storage."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TypeVar

from a2a.types import Message, Part
from django.db import connection

from artifacts_app import blobs, uploads
from tasks_app import addresses, agents
from tasks_app.a2a.errors import ResourceExhaustedError, invalid, unsupported_content
from tasks_app.engine import FollowUp, NewTask, files
from tasks_app.engine.core import on_storage_thread
from tasks_app.models import InboxMessage, TaskRequest

T = TypeVar("T", NewTask, FollowUp)
#: What a client is told to wait before it tries again, in seconds.
RETRY_S = 5.0


def is_heavy(item: NewTask | FollowUp) -> bool:
    """Whether its message may hold a file that is to stand elsewhere."""
    return not blobs.is_inline(len(item.message)) or addresses.may_name_upload(item.message)


def filed(item: T) -> T:
    """The same message, with addresses of ours in place of its files.

    Raises ResourceExhaustedError where the storage fails, InvalidParamsError for a file that its client has not sent,
    ContentTypeNotSupportedError for one that the agent does not take.
    """
    if not is_heavy(item):
        return item
    message = Message.FromString(item.message)
    moved = [_put(part) or _named(part, f"message.parts[{nth}]", item) for nth, part in enumerate(message.parts)]
    if not any(moved):
        return item
    said_sha256 = hashlib.sha256(item.message).digest()
    return replace(item, message=message.SerializeToString(deterministic=True), said_sha256=said_sha256)


def _put(part: Part) -> bool:
    """Moves what is in the part to a storage, if it is large."""
    if part.WhichOneof("content") != "raw" or blobs.is_inline(len(part.raw)):
        return False
    # Rows of blobs are committed before their bytes are written, whatever transaction the caller is in.
    put = on_storage_thread(blobs.put) if connection.in_atomic_block else blobs.put
    try:
        part.url = files.address(put(part.raw))
    except blobs.StorageFailed as error:
        raise ResourceExhaustedError("storage", f"{error}; nothing was accepted", retry_after_s=RETRY_S) from error
    return True


def _named(part: Part, path: str, item: NewTask | FollowUp) -> bool:
    """Has the part lead to the file that it names, if it names one that was sent by itself."""
    upload_id = addresses.uploaded(part.url) if part.WhichOneof("content") == "url" else None
    if upload_id is None:
        return False
    upload = uploads.of(upload_id, client_id=item.client_id)
    if upload is None:
        if _is_repeat(item):
            return True  # the first has its file, whatever has become of the upload
        raise invalid(f"{path}.url", "there is no such file, or it was sent too long ago")
    part.media_type = part.media_type or upload.media_type
    spec = agents.registered().get(item.agent)
    if spec is not None and not spec.accepts(part.media_type):
        modes = ", ".join(spec.input_modes)
        raise unsupported_content(f"{path}.mediaType", f"'{part.media_type}' is none of {modes}")
    part.url = files.address(blobs.of(upload.blob), said=part.url)
    part.filename = part.filename or upload.filename
    return True


def _is_repeat(item: NewTask | FollowUp) -> bool:
    """Whether a message of this id was accepted before."""
    if isinstance(item, FollowUp):
        return InboxMessage.objects.filter(task_id=item.task_id, message_id=item.message_id).exists()
    known = TaskRequest.objects.filter(client_id=item.client_id, agent=item.agent, message_id=item.message_id)
    return known.exists()
