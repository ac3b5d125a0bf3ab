"""What the Starlette routes share: the bounded body, the caller, the server's own address."""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks_app.authentication import Caller, Forbidden, Unauthenticated
from tasks_app.web import web


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


async def caller(request: Request) -> Caller:
    """Who asks. Raises Unauthenticated."""
    return await web().caller(request.headers, request.client.host if request.client else None)


def refused(status: int, detail: str, *errors: dict[str, str], headers: Mapping[str, str] | None = None) -> Response:
    """An error in the shape of the REST door; ``errors`` are ``{"field": …, "message": …}``."""
    return JSONResponse({"detail": detail, "errors": errors}, status_code=status, headers=headers)


def denied(error: Unauthenticated | Forbidden) -> Response:
    """401 or 403, with what the client would need (RFC 6750, section 3)."""
    return refused(401 if isinstance(error, Unauthenticated) else 403, str(error), headers=error.headers)


def base_url(request: Request) -> str:
    """Where this client reaches the server."""
    return settings.A2A_PUBLIC_URL.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"
