"""Where clients find what they are not handed at once. The paths themselves stand in ``a2a_project/asgi.py``."""

from __future__ import annotations

import re
from uuid import UUID

from django.conf import settings
from django.http.request import validate_host

_FILES = "/api/v1/files/"
_FILE = re.compile(
    rf"(?:https?://(?P<host>\[[0-9a-f:.]+\]|[^/?#:@]+)(?::\d+)?)?"
    rf"{_FILES}(?P<id>[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})/content",
    re.IGNORECASE,
)


def content_path(artifact_id: UUID) -> str:
    """Of an artifact's content, on this server."""
    return f"/api/v1/artifacts/{artifact_id}/content"


def file_path(upload_id: UUID) -> str:
    """Of the content of a file that a client has sent, on this server."""
    return f"{_FILES}{upload_id}/content"


def uploaded(url: str) -> UUID | None:
    """The file whose content has this address, with or without a name of this server's before it."""
    found = _FILE.fullmatch(url)
    if found is None or (found["host"] and not validate_host(found["host"].lower(), settings.ALLOWED_HOSTS)):
        return None
    return UUID(found["id"])


def may_name_upload(message: bytes) -> bool:
    """Whether such an address may stand in a message."""
    return _FILES.encode() in message


def content_url(artifact_id: UUID) -> str:
    """As :func:`content_path`, with the server's public address where it has one."""
    return f"{str(settings.A2A_PUBLIC_URL).rstrip('/')}{content_path(artifact_id)}"
