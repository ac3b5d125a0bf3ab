"""``GET /api/v1/artifacts/<id>/content``: an artifact's bytes, all or a range, a slice at a time (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from artifacts_app import blobs
from artifacts_app.blobs import Stored
from artifacts_app.models import BLOB, CURRENT, SIZE, STORED
from tasks_app import contents, engine, signed_urls
from tasks_app.a2a import http
from tasks_app.authentication import Forbidden, Unauthenticated, check_scopes
from tasks_app.engine.core import Statement, Steps
from tasks_app.media_types import is_media_type
from tasks_app.web import web

#: RFC 2483, section 5.
URI_LIST = "text/uri-list"
#: What is sent in place of a type that no header can hold; none such is stored any more.
UNKNOWN = "application/octet-stream"
#: What a browser may show by itself, without running anything of it.
INLINE = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/json", "text/plain")
#: So much of an artifact is in memory at a time.
SLICE_BYTES = 1024 * 1024
#: One range, of at most 18 digits; a request for several is answered whole (section 14.2).
_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)

HEAD = f"""
SELECT artifact.name, artifact.type, artifact.sha256, artifact.id::text || '-' || artifact.generation,
       chunk.filename, chunk.kind, chunk.generation, chunk.position,
       {SIZE.format(chunk="chunk")}, {STORED}
FROM artifacts_app_artifact artifact
JOIN tasks_app_task task ON task.id = artifact.task_id AND task.client_id = %(client_id)s
JOIN artifacts_app_artifactchunk chunk ON {CURRENT} {BLOB}
WHERE artifact.id = %(artifact_id)s
ORDER BY chunk.generation, chunk.position
"""  # noqa: S608 (only constants are put in)
# What an event carried never changes: a slice is of the content that the head was of, or of nothing.
SLICE = """
SELECT substring(content FROM %(start)s::int + 1 FOR %(size)s::int) FROM artifacts_app_artifactchunk
WHERE artifact_id = %(artifact_id)s AND generation = %(generation)s AND position = %(position)s
"""


class Piece(NamedTuple):
    """A part of the content, from ``start`` on of the whole; where ``stored`` says, or in its artifact's row."""

    generation: int
    position: int
    start: int
    size_bytes: int
    stored: Stored | None


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of the content, of an artifact or a file, before any of it is read."""

    id: UUID
    filename: str
    media_type: str
    etag: str
    pieces: tuple[Piece, ...]

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self.pieces)

    @property
    def disposition(self) -> str:
        """Shown by a browser only where nothing of it can run; else saved under its name."""
        kind = "inline" if self.media_type in INLINE else "attachment"
        return f"{kind}; filename*=UTF-8''{quote(self.filename)}"

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Disposition": self.disposition,
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
            "ETag": self.etag,
            "Accept-Ranges": "bytes",
            # It is its client's alone, and may be replaced.
            "Cache-Control": "private, no-cache",
        }


async def content(request: Request) -> Response:
    """Of what stands elsewhere, where. 304 if the client has it, 206 for a range, 416 for one beyond the end."""
    try:
        artifact_id = UUID(request.path_params["artifact_id"])
        found = await web().read(_head, artifact_id, client_id=await _client_id(request, artifact_id))
    except signed_urls.Refused as error:
        return http.refused(403, str(error), {"field": signed_urls.TOKEN, "message": str(error)})
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except ValueError:
        found = None
    return http.refused(404, "no such artifact") if found is None else answer(request, found)


def answer(request: Request, found: Content) -> Response:
    """The content, as its client asks for it (RFC 9110, sections 13 and 14)."""
    wanted = request.headers.getlist("if-match")
    if wanted and not http.names(wanted, found.etag, strongly=True):
        return http.refused(412, "If-Match: the artifact is another by now")
    if http.names(request.headers.getlist("if-none-match"), found.etag):
        return Response(status_code=304, headers=found.headers)
    whole = range(found.size_bytes)
    asked = _asked(request, found) if request.method == "GET" else None
    if asked is not None and not asked:
        unsatisfied = {"Content-Range": f"bytes */{len(whole)}"}
        return http.refused(416, f"Range: the artifact has {len(whole)} bytes", headers=unsatisfied)
    sent = whole if asked is None else asked
    headers = found.headers | {"Content-Length": str(len(sent))}
    if asked is not None:
        headers["Content-Range"] = f"bytes {asked[0]}-{asked[-1]}/{len(whole)}"
    status = 200 if asked is None else 206
    body = _slices(found, sent) if request.method == "GET" else _nothing()
    return StreamingResponse(body, status_code=status, media_type=found.media_type, headers=headers)


async def _client_id(request: Request, artifact_id: UUID) -> int:
    """As which client it is read: by the address, if it is a signed one, or by who asks."""
    token = http.query(request).get(signed_urls.TOKEN)
    if token is not None:
        return signed_urls.client_id(artifact_id, token)
    caller = await http.caller(request)
    check_scopes(caller, write=False)
    return caller.client_id


def _asked(request: Request, found: Content) -> range | None:
    """The range that is asked for, empty if there is none such; None for all (RFC 9110, sections 13.1.5, 14.2)."""
    said = _RANGE.fullmatch(request.headers.get("range", ""))
    condition = request.headers.get("if-range")
    if said is None or not any(said.groups()) or (condition is not None and condition != found.etag):
        return None
    first, last, size = said[1], said[2], found.size_bytes
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


async def _slices(found: Content, sent: range) -> AsyncIterator[bytes]:
    for piece in found.pieces:
        at, end = max(sent.start, piece.start), min(sent.stop, piece.start + piece.size_bytes)
        if piece.stored is not None:
            async for data in contents.slices(piece.stored, range(at - piece.start, end - piece.start)):
                yield data
            continue
        while at < end:
            data = await web().read(_slice, found.id, piece, at, min(SLICE_BYTES, end - at))
            if not data:
                raise RuntimeError(f"artifact {found.id} was deleted while it was read")
            yield data
            at += len(data)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def direct_url(artifact_id: UUID, *, client_id: int, expires_s: int) -> str | None:
    """Where the storage itself hands the content out for so long; None if it does not, or if it has not all of it."""
    found = engine.run(_head, artifact_id, client_id=client_id)
    stored = found.pieces[0].stored if found is not None and len(found.pieces) == 1 else None
    if found is None or stored is None:
        return None
    about = {"media_type": found.media_type, "disposition": found.disposition}
    return blobs.address(stored, expires_s=expires_s, **about)


def _head(artifact_id: UUID, *, client_id: int) -> Steps[Content | None]:
    rows = yield Statement(HEAD, {"artifact_id": artifact_id, "client_id": client_id})
    if not rows:
        return None
    name, media_type, sha256, version, filename = rows[0][:5]
    if any(row[5] == "url" for row in rows):
        media_type = URI_LIST
    elif not is_media_type(media_type):
        media_type = UNKNOWN
    etag = f'"{version if sha256 is None else bytes(sha256).hex()}"'
    return Content(artifact_id, filename or name or "artifact", media_type, etag, _pieces(rows))


def _pieces(rows: list[tuple[Any, ...]]) -> tuple[Piece, ...]:
    pieces, start = [], 0
    for row in rows:
        pieces.append(Piece(row[6], row[7], start, row[8], Stored(*row[9:]) if row[9] else None))
        start += row[8]
    return tuple(pieces)


def _slice(artifact_id: UUID, piece: Piece, at: int, size_bytes: int) -> Steps[bytes]:
    params = {"artifact_id": artifact_id, "generation": piece.generation, "position": piece.position}
    rows = yield Statement(SLICE, {**params, "start": at - piece.start, "size": size_bytes})
    return bytes(rows[0][0]) if rows else b""
