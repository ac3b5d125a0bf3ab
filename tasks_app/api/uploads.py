"""``POST /api/v1/files/``: a file by itself, as it comes; and ``GET /api/v1/files/<id>/content``, by ranges."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from artifacts_app import blobs, uploads
from artifacts_app.blobs import Stored
from artifacts_app.models import MessageFile, Upload
from artifacts_app.sniffing import plainly_other
from tasks_app.a2a import http
from tasks_app.addresses import file_path
from tasks_app.api.delivery import Content, Piece, answer
from tasks_app.authentication import Caller, Forbidden, Unauthenticated, check_scopes
from tasks_app.engine.core import in_storage_thread
from tasks_app.intake import over_quota
from tasks_app.media_types import is_media_type
from tasks_app.models import Task

#: Of a process: each holds a connection to the database, of which its threads have ``A2A_WEB_POOL_SIZE``.
AT_ONCE = 4
#: Of one client.
AT_ONCE_EACH = 2
#: A MiB must come within so long, in seconds: slower clients would keep others out.
SLICE_S = 60.0
#: So much is read before any of it is stored: the file shows by it what it is.
START_BYTES = 4096
FILENAME_MAX_CHARS = 256
#: What a page of another origin may send without being asked for leave (Fetch, «CORS-safelisted request-header»).
_SIMPLE = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]+")
_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload")
#: How many each client sends now.
_under_way: Counter[int] = Counter()


class _Refused(Exception):
    """What the client hears: the status, the field, and what is wrong with it."""

    def __init__(self, status: int, field: str, message: str) -> None:
        super().__init__(message)
        self.response = http.refused(status, f"{field}: {message}", {"field": field, "message": message})


async def upload(request: Request) -> Response:
    """201 and the file, durable by then. 413 for one that is too large, 415 for one that is not what it says it is."""
    try:
        caller = await http.caller(request)
        check_scopes(caller, write=True)
        filename, media_type = _filename(request), _media_type(request)
        _check_length(request, caller)
        if sum(_under_way.values()) >= AT_ONCE or _under_way[caller.client_id] >= AT_ONCE_EACH:
            most = f"this process takes {AT_ONCE} at once, {AT_ONCE_EACH} of each client; try again"
            raise _Refused(429, "uploads", most)
        _under_way[caller.client_id] += 1
        try:
            kept = await _stored(request, caller, filename, media_type)
        finally:
            _under_way[caller.client_id] -= 1
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except _Refused as error:
        return error.response
    except ClientDisconnect:
        return Response(status_code=400)
    return JSONResponse(kept, status_code=201, headers={"Location": str(kept["url"])})


async def content(request: Request) -> Response:
    """The file's bytes, for its client; as an artifact's."""
    try:
        upload_id = UUID(request.path_params["upload_id"])
        caller = await http.caller(request)
        check_scopes(caller, write=False)
        found = await in_storage_thread(_content, upload_id, caller.client_id)
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except ValueError:
        found = None
    return http.refused(404, "no such file") if found is None else answer(request, found)


def _content(file_id: UUID, client_id: int) -> Content | None:
    """What the client has sent under this id by itself, or in a message to one of its tasks."""
    sent = uploads.of(file_id, client_id=client_id)
    if sent is not None:
        return _of_blob(blobs.of(sent.blob), sent.filename, sent.media_type)
    own = Task.objects.filter(id=OuterRef("task_id"), client_id=client_id)
    said = MessageFile.objects.select_related("blob").filter(Exists(own), blob_id=file_id).first()
    # What its message says of its name and type is the message's.
    return None if said is None else _of_blob(blobs.of(said.blob), "", "application/octet-stream")


def _of_blob(stored: Stored, filename: str, media_type: str) -> Content:
    etag = f'"{stored.sha256.hex()}"'
    return Content(stored.id, filename or "file", media_type, etag, (Piece(0, 0, 0, stored.size_bytes, stored),))


async def _stored(request: Request, caller: Caller, filename: str, media_type: str) -> dict[str, object]:
    """What is said of the file, once it is stored."""
    pieces = _pieces(request)
    start = await _next(pieces)
    shown = plainly_other(media_type, start[:START_BYTES])
    if shown is not None:
        raise _Refused(415, "Content-Type", f"says {media_type}, and the bytes are {shown}")
    loop = asyncio.get_running_loop()

    def coming() -> Iterator[bytes]:
        """The same pieces, for the thread that stores them."""
        yield start
        while piece := asyncio.run_coroutine_threadsafe(_next(pieces), loop).result():
            yield piece

    about = {"client_id": caller.client_id, "filename": filename, "media_type": media_type}
    left_bytes = settings.A2A_MAX_FILE_BYTES if caller.storage_left_bytes is None else caller.storage_left_bytes
    limit_bytes = min(left_bytes, settings.A2A_MAX_FILE_BYTES)
    try:
        return await loop.run_in_executor(_threads, partial(_keep, coming(), about, limit_bytes))
    except blobs.TooLarge as error:
        if error.limit_bytes < settings.A2A_MAX_FILE_BYTES:
            raise _Refused(429, "max_storage_bytes", over_quota(caller).message) from error
        raise _Refused(413, "body", f"the limit is {error.limit_bytes} bytes") from error
    except blobs.StorageFailed as error:
        raise _Refused(503, "storage", f"{error}; nothing was accepted") from error


def _keep(coming: Iterator[bytes], about: dict[str, object], limit_bytes: int) -> dict[str, object]:
    try:
        stored = blobs.put_stream(coming, limit_bytes=limit_bytes)
        return _as_dict(uploads.keep(stored, **about), stored)  # type: ignore[arg-type]
    finally:
        connection.close_if_unusable_or_obsolete()


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body, in pieces of a slice or so: each of them is a way to a thread and back."""
    waiting: list[bytes] = []
    size_bytes = 0
    async for chunk in request.stream():
        waiting.append(chunk)
        size_bytes += len(chunk)
        if size_bytes >= blobs.SLICE_BYTES:
            yield b"".join(waiting)
            waiting, size_bytes = [], 0
    yield b"".join(waiting)


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    try:
        async with asyncio.timeout(SLICE_S):
            return await anext(pieces, b"")
    except TimeoutError:
        raise _Refused(408, "body", f"less than a MiB came within {SLICE_S:g} s") from None


def _filename(request: Request) -> str:
    name = request.query_params.get("filename", "")
    if name and (len(name) > FILENAME_MAX_CHARS or not _NAME.fullmatch(name)):
        wanted = f"must be a name of at most {FILENAME_MAX_CHARS} characters, without slashes and control characters"
        raise _Refused(400, "filename", wanted)
    return name


def _media_type(request: Request) -> str:
    said = request.headers.get("content-type", "")
    if not is_media_type(said):
        raise _Refused(400, "Content-Type", "is required: the file's media type, such as application/dicom")
    if said.partition(";")[0].strip().lower() in _SIMPLE and not {"authorization", "x-api-key"} & set(request.headers):
        # As for JSON: a page of another origin can send these without being asked for leave.
        raise _Refused(415, "Content-Type", "without a key it must be none that a page can send: take another")
    return said


def _check_length(request: Request, caller: Caller) -> None:
    declared = http.whole_number(request.headers.get("content-length", "")) or 0
    if caller.storage_left_bytes is not None and declared > caller.storage_left_bytes:
        raise _Refused(429, "max_storage_bytes", over_quota(caller).message)
    if declared > settings.A2A_MAX_FILE_BYTES:
        raise _Refused(413, "body", f"the limit is {settings.A2A_MAX_FILE_BYTES} bytes")


def _as_dict(kept: Upload, stored: Stored) -> dict[str, object]:
    until = kept.created_at + timedelta(days=settings.A2A_KEEP_UPLOADS_DAYS)
    return {
        "id": str(kept.id),
        "url": file_path(kept.id),
        "filename": kept.filename,
        "media_type": kept.media_type,
        "size_bytes": stored.size_bytes,
        "sha256": stored.sha256.hex(),
        "expires_at": until.isoformat().replace("+00:00", "Z"),
    }
