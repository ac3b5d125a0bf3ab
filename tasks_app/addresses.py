"""Where clients find what they are not handed at once. The paths themselves stand in ``a2a_project/asgi.py``."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings


def content_path(artifact_id: UUID) -> str:
    """Of an artifact's content, on this server."""
    return f"/api/v1/artifacts/{artifact_id}/content"


def content_url(artifact_id: UUID) -> str:
    """As :func:`content_path`, with the server's public address where it has one."""
    return f"{str(settings.A2A_PUBLIC_URL).rstrip('/')}{content_path(artifact_id)}"
