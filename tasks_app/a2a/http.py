"""What the Starlette routes share: the bounded body, the caller, the server's own address."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

from django.conf import settings
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks_app.a2a.errors import InvalidRequestError, invalid
from tasks_app.authentication import Caller, Forbidden, Unauthenticated
from tasks_app.web import web

GENERATION_MAX = 2**31 - 1
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")
#: When this process began: what it serves of its settings is as old.
STARTED_AT_S = int(time.time())


class BodyTooLarge(Exception):
    """The body is larger than ``A2A_MAX_BODY_BYTES``."""


async def body(request: Request) -> bytes:
    """The request's body. Raises :class:`BodyTooLarge`, without reading further than the limit."""
    limit = settings.A2A_MAX_BODY_BYTES
    declared = whole_number(request.headers.get("content-length", ""))
    if declared is not None and declared > limit:
        raise BodyTooLarge(f"the body has {declared} bytes; the limit is {limit}")
    chunks, size_bytes = [], 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def whole_number(text: str) -> int | None:
    """The number that a header says, from 0 and of at most 18 digits; None if it says anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def check_content_type(request: Request) -> None:
    """Only JSON that says so: a page of another origin can send anything else without being asked for leave.

    Raises InvalidRequestError.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/a2a+json"):
        raise InvalidRequestError("Content-Type: must be application/json or application/a2a+json")


async def caller(request: Request) -> Caller:
    """Who asks. Raises Unauthenticated."""
    return await web().caller(request.headers, request.client.host if request.client else None)


def last_event_id(request: Request, *, what: str = "a generation", most: int = GENERATION_MAX) -> int | None:
    """The number after which the client of a stream goes on; None if it begins. Raises InvalidParamsError."""
    text = request.headers.get("last-event-id")
    if text is None:
        return None
    last = whole_number(text)
    if last is None or last > most:
        raise invalid("Last-Event-ID", f"must be {what}, a number from 0")
    return last


def refused(status: int, detail: str, *errors: dict[str, str], headers: Mapping[str, str] | None = None) -> Response:
    """An error in the shape of the REST door; ``errors`` are ``{"field": …, "message": …}``."""
    return JSONResponse({"detail": detail, "errors": errors}, status_code=status, headers=headers)


def denied(error: Unauthenticated | Forbidden) -> Response:
    """401 or 403, with what the client would need (RFC 6750, section 3)."""
    return refused(401 if isinstance(error, Unauthenticated) else 403, str(error), headers=error.headers)


def base_url(request: Request) -> str:
    """Where this client reaches the server."""
    public = str(settings.A2A_PUBLIC_URL).rstrip("/")
    if public:
        return public
    host = request.headers.get("host", "")
    # Starlette builds a URL for it, which costs more than the rest of a call's making; most hosts need none.
    return f"{request.scope['scheme']}://{host if _PLAIN_HOST.fullmatch(host) else request.url.netloc}"


def query(request: Request) -> Mapping[str, str]:
    """The parameters of the address, which most requests have none of."""
    return request.query_params if request.scope["query_string"] else {}


def tag(content: bytes) -> str:
    """The strong ETag of what is served."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def cached(request: Request, body: bytes, *, etag: str, max_age_s: int) -> Response:
    """JSON that changes only with the server's settings, or 304 if the client has it (RFC 9110, section 13)."""
    headers = {
        "ETag": etag,
        "Cache-Control": f"public, max-age={max_age_s}",
        "Last-Modified": formatdate(STARTED_AT_S, usegmt=True),
    }
    if _has_it(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def names(tags: list[str], etag: str, *, strongly: bool = False) -> bool:
    """Whether these values of If-None-Match, or of If-Match, which compares ``strongly``, name this tag.

    Strongly, a weak tag is named by none (RFC 9110, section 8.8.3.2).
    """
    wanted = {tag.strip() for tag in ",".join(tags).split(",")}
    if "*" in wanted:
        return True
    if strongly:
        return etag in wanted and not etag.startswith("W/")
    return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in wanted}


def _has_it(request: Request, etag: str) -> bool:
    """By its tags, compared weakly; by the time only where it names none (RFC 9110, section 13.2.2)."""
    tags = request.headers.getlist("if-none-match")
    if tags:
        return names(tags, etag)
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
    except (ValueError, OverflowError):
        return False
    return (since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp() >= STARTED_AT_S
