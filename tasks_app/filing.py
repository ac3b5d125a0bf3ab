"""Puts the files of a client's message where contents stand, before the engine accepts it. Waits for the storage."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from a2a.types import Message, Part
from django.db import connection

from artifacts_app import blobs, uploads
from artifacts_app.blobs import Stored
from artifacts_app.sniffing import START_BYTES, plainly_other
from tasks_app import addresses, agents
from tasks_app.a2a.errors import ResourceExhaustedError, invalid, unsupported_content
from tasks_app.a2a.parse import is_base64
from tasks_app.engine import FollowUp, NewTask, files
from tasks_app.engine.core import on_storage_thread
from tasks_app.models import InboxMessage, TaskRequest

T = TypeVar("T", NewTask, FollowUp)
#: What a client is told to wait before it tries again, in seconds.
RETRY_S = 5.0


def is_heavy(item: NewTask | FollowUp) -> bool:
    """Whether its message may hold a file that is to stand elsewhere."""
    return not blobs.is_inline(len(item.message)) or addresses.may_name_upload(item.message)


def filed(item: T, put_before: Mapping[bytes, Stored] | None = None) -> T:
    """The same message, with addresses of ours in place of its files; ``put_before`` are some by their SHA-256.

    Raises ResourceExhaustedError where the storage fails, InvalidParamsError for a file that its client has not sent,
    ContentTypeNotSupportedError for one that the agent does not take.
    """
    if not is_heavy(item):
        return item
    message = Message.FromString(item.message)
    moved = [
        _put(part, put_before or {}) or _named(part, f"message.parts[{nth}]", item)
        for nth, part in enumerate(message.parts)
    ]
    if not any(moved):
        return item
    return replace(item, message=message.SerializeToString(deterministic=True), said_digest=item.digest())


def put_all(items: Iterable[Any]) -> dict[bytes, Stored]:
    """The files of what shall be submitted, by their SHA-256, put before the transaction that accepts it.

    Takes items as JSON, and leaves out what is wrong with them. Raises ResourceExhaustedError where the storage fails.
    """
    found: dict[bytes, Stored] = {}
    for item in items:
        for content in _raw_parts(item):
            sha256 = hashlib.sha256(content).digest()
            if sha256 not in found:
                found[sha256] = _stored(content)
    return found


def _raw_parts(item: Any) -> Iterator[bytes]:
    message = item.get("message") if isinstance(item, Mapping) else None
    parts = message.get("parts") if isinstance(message, Mapping) else None
    for part in parts if isinstance(parts, list) else ():
        raw = part.get("raw") if isinstance(part, Mapping) else None
        # Four characters for three bytes; what is shorter stays in its row.
        if isinstance(raw, str) and not blobs.is_inline(len(raw) * 3 // 4) and is_base64(raw):
            yield base64.urlsafe_b64decode(raw.replace("+", "-").replace("/", "_") + "=" * (-len(raw) % 4))


def _put(part: Part, put_before: Mapping[bytes, Stored]) -> bool:
    """Moves what is in the part to a storage, if it is large."""
    if part.WhichOneof("content") != "raw" or blobs.is_inline(len(part.raw)):
        return False
    known = put_before.get(hashlib.sha256(part.raw).digest()) if put_before else None
    part.url = files.address(known or _stored(part.raw))
    return True


def _stored(content: bytes) -> Stored:
    # Rows of blobs are committed before their bytes are written, whatever transaction the caller is in.
    put = on_storage_thread(blobs.put) if connection.in_atomic_block else blobs.put
    with _told():
        return put(content)


@contextmanager
def _told() -> Iterator[None]:
    """A storage that fails is the client's to try again."""
    try:
        yield
    except OSError as error:
        raise ResourceExhaustedError("storage", f"{error}; nothing was accepted", retry_after_s=RETRY_S) from error


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
    stored = blobs.of(upload.blob)
    with _told():
        start = b"".join(blobs.read(stored, range(min(START_BYTES, stored.size_bytes))))
    shown = plainly_other(part.media_type, start)
    if shown is not None:
        raise unsupported_content(f"{path}.mediaType", f"says {part.media_type[:100]}, and the bytes are {shown}")
    part.url = files.address(stored, said=part.url)
    part.filename = part.filename or upload.filename
    return True


def _is_repeat(item: NewTask | FollowUp) -> bool:
    """Whether a message of this id was accepted before."""
    if isinstance(item, FollowUp):
        return InboxMessage.objects.filter(task_id=item.task_id, message_id=item.message_id).exists()
    known = TaskRequest.objects.filter(client_id=item.client_id, agent=item.agent, message_id=item.message_id)
    return known.exists()
