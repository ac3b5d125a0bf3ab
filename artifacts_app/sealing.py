"""Blobs at rest: sealed with AES-256-GCM in frames, so that a range is read without what stands before it.

Each blob has a key of its own, made from the first of ``A2A_CONTENT_KEYS`` and the blob's id (HKDF, RFC 5869). A
frame's nonce is its number, and whether it is the last: one that is changed, moved or left out does not open.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

#: So much of the content is in a frame; the last may have less.
FRAME_BYTES = 64 * 1024
TAG_BYTES = 16


class Unopenable(OSError):
    """Sealed with a key that ``A2A_CONTENT_KEYS`` does not hold, or not as it was sealed."""


def key_id() -> str:
    """What tells the key that seals now; empty where none is set."""
    keys = settings.A2A_CONTENT_KEYS
    return _id_of(keys[0]) if keys else ""


def sealed(content: Iterable[bytes], blob_id: UUID) -> Iterator[bytes]:
    """The content, sealed for this blob by the first key."""
    cipher = _cipher(settings.A2A_CONTENT_KEYS[0], blob_id)
    number, waiting = 0, bytearray()
    for piece in content:
        waiting += piece
        while len(waiting) > FRAME_BYTES:
            yield cipher.encrypt(_nonce(number, last=False), bytes(waiting[:FRAME_BYTES]), None)
            del waiting[:FRAME_BYTES]
            number += 1
    yield cipher.encrypt(_nonce(number, last=True), bytes(waiting), None)


def sealed_bytes(size_bytes: int) -> int:
    """How long content of this length is when it is sealed."""
    return size_bytes + TAG_BYTES * (_last(size_bytes) + 1)


def opened(file: Any, blob_id: UUID, key_id: str, *, size_bytes: int, wanted: range) -> Iterator[bytes]:
    """What was sealed, from one place of it to another, frame by frame; ``size_bytes`` is the length of all of it.

    Raises :class:`Unopenable`.
    """
    cipher = _cipher(_key(key_id), blob_id)
    last = _last(size_bytes)
    first, end = wanted.start // FRAME_BYTES, _last(wanted.stop)
    file.seek(first * (FRAME_BYTES + TAG_BYTES))
    for number in range(first, end + 1):
        try:
            frame = cipher.decrypt(_nonce(number, last=number == last), _frame(file), None)
        except InvalidTag:
            raise Unopenable(f"the bytes of blob {blob_id} are not as they were sealed") from None
        start = number * FRAME_BYTES
        yield frame[max(0, wanted.start - start) : wanted.stop - start]


def _frame(file: Any) -> bytes:
    """Reads a whole frame, whose pieces may come one by one."""
    found = bytearray()
    while len(found) < FRAME_BYTES + TAG_BYTES and (piece := file.read(FRAME_BYTES + TAG_BYTES - len(found))):
        found += piece
    return bytes(found)


def _last(size_bytes: int) -> int:
    """The number of the last frame of so much content."""
    return max(0, size_bytes - 1) // FRAME_BYTES


def _nonce(number: int, *, last: bool) -> bytes:
    return bytes([last]) + number.to_bytes(11, "big")


def _key(wanted: str) -> str:
    for key in settings.A2A_CONTENT_KEYS:
        if _id_of(key) == wanted:
            return str(key)
    raise Unopenable(f"a blob was sealed with the key {wanted}, which A2A_CONTENT_KEYS does not hold")


@lru_cache(maxsize=16)
def _id_of(key: str) -> str:
    return hashlib.sha256(b"a2a-task-manager blob key" + _raw(key)).hexdigest()[:16]


def _cipher(key: str, blob_id: UUID) -> AESGCM:
    info = b"a2a-task-manager blob " + blob_id.bytes
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(_raw(key)))


def _raw(key: str) -> bytes:
    return base64.urlsafe_b64decode(key)
