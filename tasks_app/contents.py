"""What stands in a storage, for an event loop: each wait of its own is a thread's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from artifacts_app import blobs
from artifacts_app.blobs import SLICE_BYTES, Stored
from tasks_app.engine.core import in_storage_thread


async def slices(stored: Stored, wanted: range | None = None) -> AsyncIterator[bytes]:
    """The content, or a range of it, slice by slice. Whoever stops before the end leaves no file open."""
    found = blobs.read(stored, wanted)
    try:
        while data := await in_storage_thread(_slice, found):
            yield data
    finally:
        await in_storage_thread(found.close)


def _slice(found: Iterator[bytes]) -> bytes:
    """The next of it: what is sealed comes in smaller pieces, and each call is a way to a thread and back."""
    pieces, size_bytes = [], 0
    while size_bytes < SLICE_BYTES and (piece := next(found, b"")):
        pieces.append(piece)
        size_bytes += len(piece)
    return b"".join(pieces)
