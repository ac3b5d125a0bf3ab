"""Puts what is too large for its row where contents stand, before the write that names it."""

from __future__ import annotations

import errno
from dataclasses import replace

from artifacts_app import blobs
from artifacts_app.blobs import StorageFailed
from tasks_app.agents import AgentError
from tasks_app.engine import ArtifactRecord, Chunk, Record, Write
from workers.persist import patiently


def is_heavy(item: Write) -> bool:
    """Whether some of what it holds is to stand elsewhere."""
    return any(_goes(chunk) for record in item.records for chunk in _chunks(record))


def lightened(item: Write) -> Write:
    """The same write, with what stands elsewhere put there. Waits for the storage.

    Raises AgentError to be tried again where the storage fails, OSError where it is the handler's own limit.
    """
    return replace(item, records=tuple(map(_lightened, item.records))) if is_heavy(item) else item


def _lightened(record: Record) -> Record:
    if not isinstance(record, ArtifactRecord):
        return record
    return replace(record, chunks=tuple(_put(chunk) if _goes(chunk) else chunk for chunk in record.chunks))


def _put(chunk: Chunk) -> Chunk:
    try:
        return replace(chunk, content=b"", stored=patiently(blobs.put, chunk.content))
    except StorageFailed as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EFBIG:
            raise error.__cause__ from None
        raise AgentError(f"the result cannot be stored: {error}", code="storage_failed", retryable=True) from error


def _goes(chunk: Chunk) -> bool:
    return chunk.stored is None and chunk.kind != "url" and not blobs.is_inline(len(chunk.content))


def _chunks(record: Record) -> tuple[Chunk, ...]:
    return record.chunks if isinstance(record, ArtifactRecord) else ()
