"""Puts what is too large for its row where contents stand, before the write that names it."""

from __future__ import annotations

import errno
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from a2a.types import Part

from artifacts_app import blobs
from artifacts_app.blobs import StorageFailed, Stored
from tasks_app.agents import AgentError
from tasks_app.engine import ArtifactRecord, Chunk, Claim, Record, Write, files
from tasks_app.engine.core import on_storage_thread
from workers.persist import patiently, persist


def is_heavy(item: Write) -> bool:
    """Whether some of what it holds is to stand elsewhere."""
    return any(_goes(chunk) for record in item.records for chunk in _chunks(record))


def lightened(item: Write) -> Write:
    """The same write, with what stands elsewhere put there. Waits for the storage.

    Raises OSError where the storage fails: see :func:`failure`.
    """
    return replace(item, records=tuple(map(_lightened, item.records))) if is_heavy(item) else item


def needs_files(claim: Claim) -> bool:
    """Whether files of its messages stand elsewhere."""
    return any(map(files.are_in, (claim.message, *claim.history)))


def with_files(claim: Claim) -> Claim:
    """The claim with its messages as they were said. Waits for the storage.

    Raises AgentError to be tried again where that fails.
    """
    if not needs_files(claim):
        return claim
    try:
        ((message, *history),) = persist(
            files.filled, [(claim.task_id, (claim.message, *claim.history))], for_handler=True
        )
    except OSError as error:
        reason = f"a file of the message cannot be read: {error}"
        raise AgentError(reason, code="storage_failed", retryable=True) from error
    return replace(claim, message=message, history=tuple(history))


def opened(claim: Claim, part: Part) -> BinaryIO:
    """The file that a part of the claim's messages is of. Waits for the storage. Raises ValueError if it is of none."""
    where = files.addressed(part)
    if where is None:
        if part.WhichOneof("content") != "raw":
            raise ValueError("part: it holds no bytes")
        return BytesIO(part.raw)
    stored = persist(files.stored_of, claim.task_id).get(where.blob_id)
    if stored is None:
        raise ValueError("part: it is of no message of this task")
    return blobs.opened(stored, on_thread=on_storage_thread)


def put_file(path: Path, *, limit_bytes: int) -> Stored:
    """Puts a file's content where contents stand. Waits for the storage. Raises AgentError, OSError."""

    def put() -> Stored:
        with path.open("rb") as file:
            return blobs.put_stream(iter(partial(file.read, blobs.SLICE_BYTES), b""), limit_bytes=limit_bytes)

    try:
        # On a thread with a connection that is kept, and outside of whatever transaction the handler is in.
        return patiently(on_storage_thread(put))
    except StorageFailed as error:
        raise failure(error) from error
    except blobs.TooLarge as error:
        raise AgentError(f"the artifact is too large: {error}", code="artifact_too_large") from error


def _lightened(record: Record) -> Record:
    if not isinstance(record, ArtifactRecord):
        return record
    return replace(record, chunks=tuple(_put(chunk) if _goes(chunk) else chunk for chunk in record.chunks))


def _put(chunk: Chunk) -> Chunk:
    return replace(chunk, content=b"", stored=patiently(blobs.put, chunk.content))


def failure(error: OSError) -> Exception:
    """How an attempt ends whose result cannot be stored: tried again, but where its own limit of files is reached."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if cause.errno == errno.EFBIG:
        return cause
    return AgentError(f"the result cannot be stored: {error}", code="storage_failed", retryable=True)


def _goes(chunk: Chunk) -> bool:
    return chunk.stored is None and chunk.kind != "url" and not blobs.is_inline(len(chunk.content))


def _chunks(record: Record) -> tuple[Chunk, ...]:
    return record.chunks if isinstance(record, ArtifactRecord) else ()
