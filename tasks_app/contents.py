"""What stands in a storage, for an event loop: each wait of its own is a thread's."""

from __future__ import annotations

from collections.abc import AsyncIterator

from artifacts_app import blobs
from artifacts_app.blobs import Stored
from tasks_app.engine.core import in_storage_thread


async def slices(stored: Stored, wanted: range | None = None) -> AsyncIterator[bytes]:
    """The content, or a range of it, slice by slice. Whoever stops before the end leaves no file open."""
    found = blobs.read(stored, wanted)
    try:
        while (data := await in_storage_thread(next, found, None)) is not None:
            yield data
    finally:
        await in_storage_thread(found.close)
