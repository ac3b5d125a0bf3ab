"""Blobs: contents that stand in a storage, named by their SHA-256 (``docs/decisions/0016-blobs.md``).

What is put is there when this returns, and stays as long as something names it; what nothing names is collected
(``artifacts_app/collector.py``). Blocking: from a coroutine, call it in a thread.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage, storages
from django.core.files.storage.handler import InvalidStorageError
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from artifacts_app import sealing
from artifacts_app.models import Blob, BlobRemoval
from artifacts_app.storage.options import S3, kind
from artifacts_app.storage.seekable import Seekable

#: What was put and is not named after so long is collected. Longer than anything that puts takes to name it.
GRACE = timedelta(hours=1)
#: A long upload says so often that it goes on.
ALIVE_S = 60.0
#: So much of a content is in memory at a time.
SLICE_BYTES = 1024 * 1024


class StorageFailed(OSError):
    """The storage could not save, or has not what it has saved. It may be tried again."""


class TooLarge(Exception):
    """More was to be put than may be; ``limit_bytes`` says how much."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"it has more than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob whose bytes are all there."""

    id: UUID
    storage: str
    key_id: str
    size_bytes: int
    sha256: bytes = b""

    @property
    def name(self) -> str:
        """What the storage knows it by."""
        return str(self.id)


def of(blob: Blob) -> Stored:
    """The blob as it is read; its bytes must be there."""
    sha256 = bytes(blob.sha256 or b"")
    return Stored(blob.id, blob.storage, blob.key_id, blob.size_bytes or 0, sha256)


def is_inline(size_bytes: int) -> bool:
    """Whether a content of this length stays in its row. None does where contents are to be sealed."""
    return size_bytes <= settings.A2A_ARTIFACT_INLINE_BYTES and not settings.A2A_CONTENT_KEYS


def put(content: bytes) -> Stored:
    """Stores the content, unless the same is there. Raises :class:`StorageFailed`."""
    sha256 = hashlib.sha256(content).digest()
    known = _touched(sha256)
    if known is None:
        return put_stream([content])
    _mend(known, [content])
    return known


def put_stream(content: Iterable[bytes], *, limit_bytes: int | None = None) -> Stored:
    """Stores what comes, of which no more than ``SLICE_BYTES`` and a piece is in memory at a time.

    Raises :class:`StorageFailed`, :class:`TooLarge`, or what the content raises.
    """
    place, key_id = _where()
    blob = Blob.objects.create(storage=place, key_id=key_id, collect_at=Now() + GRACE)
    coming = _Coming(content, blob, limit_bytes)
    try:
        _save(blob, coming)
        return _finished(blob, coming)
    except BaseException:
        _abandon(blob)
        raise


def read(stored: Stored, wanted: range | None = None) -> Generator[bytes, None, None]:
    """The content, or a range of it, slice by slice. Raises OSError for what the storage has lost or cannot give."""
    wanted = range(stored.size_bytes) if wanted is None else wanted
    if not wanted:
        return
    with storage_of(stored.storage).open(stored.name) as file:
        if stored.key_id:
            yield from sealing.opened(file, stored.id, stored.key_id, size_bytes=stored.size_bytes, wanted=wanted)
            return
        file.seek(wanted.start)
        left = len(wanted)
        while left:
            piece = file.read(min(SLICE_BYTES, left))
            if not piece:
                raise StorageFailed(f"the storage has lost {left} bytes of blob {stored.id}")
            left -= len(piece)
            yield piece


def opened(stored: Stored, *, on_thread: Callable[[Callable[[range], bytes]], Callable[[range], bytes]]) -> BinaryIO:
    """The content as a file that can be read from any place, each slice by what ``on_thread`` makes of the function
    that reads it. Raises OSError as :func:`read`.
    """
    return io.BufferedReader(_File(stored, on_thread(lambda wanted: b"".join(read(stored, wanted)))), SLICE_BYTES)


def load(stored: Stored) -> bytes:
    """The whole content. Raises OSError."""
    return b"".join(read(stored))


def address(stored: Stored, *, expires_s: int, media_type: str, disposition: str) -> str | None:
    """Where the storage itself hands the content out for so long, if it can."""
    storage: Any = storage_of(stored.storage)
    if not hasattr(storage, "address"):
        return None
    return str(storage.address(stored.name, expires_s=expires_s, media_type=media_type, disposition=disposition))


def storage_of(place: str) -> Storage:
    """The storage. Raises :class:`StorageFailed` where the settings do not name it any more."""
    try:
        return storages[place]
    except InvalidStorageError:
        raise StorageFailed(f"a blob stands in '{place}', which A2A_ARTIFACT_STORAGE does not name") from None


def is_there(stored: Stored) -> bool:
    """Whether the storage has as many bytes of it as it should. Raises OSError where it cannot say."""
    try:
        return storage_of(stored.storage).size(stored.name) == _bytes_at_rest(stored.size_bytes, stored.key_id)
    except FileNotFoundError:
        return False


def _where() -> tuple[str, str]:
    """Where contents go now, and what tells the key that seals them. What is in S3, S3 seals."""
    place = settings.A2A_ARTIFACT_STORAGE[0]
    return place, "" if kind(place) == S3 else sealing.key_id()


def _save(blob: Blob, coming: _Coming) -> None:
    try:
        _write(blob, iter(coming))
        saved_bytes = storage_of(blob.storage).size(str(blob.id))
    except OSError as error:
        if coming.failure is not None:
            raise coming.failure from None
        raise StorageFailed(f"the storage failed: {error}") from error
    wanted_bytes = _bytes_at_rest(coming.size_bytes, blob.key_id)
    if saved_bytes != wanted_bytes:
        raise StorageFailed(f"the storage holds {saved_bytes} of {wanted_bytes} bytes that it saved")


def _write(blob: Blob | Stored, pieces: Iterator[bytes]) -> None:
    if blob.key_id:
        pieces = sealing.sealed(pieces, blob.id)
    name = str(blob.id)
    storage_of(blob.storage).save(name, File(io.BufferedReader(_Reader(pieces), SLICE_BYTES), name))


def _mend(known: Stored, content: Iterable[bytes]) -> None:
    """Puts the bytes of a blob back if its storage has lost them: all that name it have them again."""
    try:
        if not is_there(known):
            storage_of(known.storage).delete(known.name)
            _write(known, iter(content))
    except OSError as error:
        raise StorageFailed(f"the storage failed: {error}") from error


def _bytes_at_rest(size_bytes: int, key_id: str) -> int:
    return sealing.sealed_bytes(size_bytes) if key_id else size_bytes


def _finished(blob: Blob, coming: _Coming) -> Stored:
    """The blob, now stored, or the one that has the same content: ours is then collected."""
    sha256 = coming.sha256.digest()
    known = _touched(sha256)
    if known is None:
        mine = Blob.objects.filter(id=blob.id, stored_at=None)
        try:
            with transaction.atomic():
                stored = mine.update(
                    sha256=sha256, size_bytes=coming.size_bytes, stored_at=Now(), collect_at=Now() + GRACE
                )
        except IntegrityError:
            known = _touched(sha256)
        else:
            if stored:
                return Stored(blob.id, blob.storage, blob.key_id, coming.size_bytes, sha256)
    if known is None:
        BlobRemoval.objects.get_or_create(id=blob.id, storage=blob.storage, defaults={"created_at": timezone.now()})
        raise StorageFailed(f"blob {blob.id} was collected while it was written")
    _mend(known, read(Stored(blob.id, blob.storage, blob.key_id, coming.size_bytes)))
    _abandon(blob)
    return known


def _touched(sha256: bytes) -> Stored | None:
    """The blob with this content where contents go now, if there is one; it is not collected for another while."""
    place, key_id = _where()
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE artifacts_app_blob SET collect_at = now() + make_interval(secs => %s)
               WHERE sha256 = %s AND storage = %s AND key_id = %s AND stored_at IS NOT NULL
               RETURNING id, storage, key_id, size_bytes""",
            [GRACE.total_seconds(), sha256, place, key_id],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    return Stored(row[0], row[1], row[2], row[3], sha256)


def _abandon(blob: Blob) -> None:
    """Leaves it to the collector, which comes soon."""
    Blob.objects.filter(id=blob.id, stored_at=None).update(collect_at=Now())


class _Coming:
    """A content on its way: counted, summed up, and kept from the collector."""

    def __init__(self, content: Iterable[bytes], blob: Blob, limit_bytes: int | None) -> None:
        self._content = content
        self._blob_id = blob.id
        self._limit_bytes = limit_bytes
        self._said_at = time.monotonic()
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        #: What the content raised, whatever the storage made of it.
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._content:
                self.sha256.update(piece)
                self.size_bytes += len(piece)
                if self._limit_bytes is not None and self.size_bytes > self._limit_bytes:
                    raise TooLarge(self._limit_bytes)
                self._say()
                yield piece
        except Exception as error:
            self.failure = error
            raise

    def _say(self) -> None:
        if time.monotonic() - self._said_at > ALIVE_S:
            self._said_at = time.monotonic()
            Blob.objects.filter(id=self._blob_id).update(collect_at=Now() + GRACE)


class _File(Seekable):
    """Reads a range for whatever it is asked for."""

    def __init__(self, stored: Stored, slice_of: Callable[[range], bytes]) -> None:
        super().__init__(stored.size_bytes)
        self._slice_of = slice_of

    def readinto(self, buffer: Any) -> int:
        wanted = range(self._at, min(self._size_bytes, self._at + len(buffer)))
        if wanted:
            buffer[: len(wanted)] = self._slice_of(wanted)
            self._at = wanted.stop
        return len(wanted)


class _Reader(io.RawIOBase):
    """A file that is read once, from pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)
