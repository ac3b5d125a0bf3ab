"""Addresses of artifacts' contents that need no key, for a while: signed with the server's secret key."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

from django.core import signing
from django.utils import timezone

from tasks_app.addresses import content_path

#: The parameter of the address.
TOKEN = "token"  # noqa: S105 (its name)
EXPIRES_S, EXPIRES_MAX_S = 3600, 7 * 86_400
_SALT = "a2a.artifact"


class Refused(Exception):
    """The token was not made here, is for another artifact, or has expired."""


def path(artifact_id: UUID, client_id: int, until: datetime) -> str:
    """Where the content is read as this client until then."""
    token = _signer().sign_object([artifact_id.hex, client_id, int(until.timestamp())])
    return f"{content_path(artifact_id)}?{urlencode({TOKEN: token})}"


def client_id(artifact_id: UUID, token: str) -> int:
    """The client as which the artifact may be read. Raises :class:`Refused`."""
    try:
        signed_id, owner_id, until = _signer().unsign_object(token)
    except (signing.BadSignature, ValueError, TypeError):
        raise Refused("the address was not made here") from None
    if signed_id != artifact_id.hex:
        raise Refused("the address is another artifact's")
    if until < timezone.now().timestamp():
        raise Refused("the address has expired")
    return int(owner_id)


def _signer() -> signing.Signer:
    return signing.Signer(salt=_SALT)
