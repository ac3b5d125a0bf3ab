"""Who asks: one implementation for every door. API keys, or the client ``local`` in the open mode on loopback."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from tasks_app.models.client import LOCAL_CLIENT, ApiKey, Client

#: A key's answer is remembered this long: what a revoked key is good for after its revocation, and how long a client's
#: old limits count after they were changed, in seconds.
REMEMBER_S = 5.0
CHALLENGE = 'Bearer realm="a2a"'


class Unauthenticated(Exception):
    """No key, where one is needed, or one that is unknown, expired or revoked."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request belongs to, and how much that client may submit; None is as much as it likes."""

    client_id: int
    name: str
    submit_rate_per_s: float | None = None
    max_queued: int | None = None

    @property
    def is_authenticated(self) -> bool:
        """What DRF's permission classes ask."""
        return True


_known: dict[bytes, tuple[float, Caller]] = {}


def remembered(headers: Mapping[str, str], peer: str | None) -> Caller | None:
    """The caller, if it was identified a moment ago; None if the database must be asked. Never waits."""
    found = _known.get(_cache_key(headers, peer))
    return found[1] if found is not None and found[0] > time.monotonic() else None


def identify(headers: Mapping[str, str], peer: str | None) -> Caller:
    """The caller of a request with these headers from this address. Asks the database.

    Raises :class:`Unauthenticated`.
    """
    key = _key(headers)
    client = _client_of(key) if key else _local(peer)
    caller = Caller(client.pk, client.name, client.submit_rate_per_s, client.max_queued)
    if len(_known) > 10_000:
        _known.clear()
    _known[_cache_key(headers, peer)] = (time.monotonic() + REMEMBER_S, caller)
    return caller


def forget() -> None:
    """Asks the database again for everybody: tests, and a process whose database changed."""
    _known.clear()


def _key(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key", "").strip()


def _cache_key(headers: Mapping[str, str], peer: str | None) -> bytes:
    # Two namespaces, so that no key reads like an address.
    key = _key(headers)
    return ApiKey.hash(f"key {key}" if key else f"peer {peer}")


def _client_of(key: str) -> Client:
    current = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
    prefix = key.removeprefix("a2a_").partition("_")[0]
    found = ApiKey.objects.filter(current, prefix=prefix[:16], digest=ApiKey.hash(key), client__is_active=True)
    # PostgreSQL refuses to compare with a NUL.
    row = None if "\x00" in key else found.select_related("client").first()
    if row is None:
        raise Unauthenticated("the API key is unknown, expired or revoked")
    return row.client


def _local(peer: str | None) -> Client:
    if not settings.A2A_OPEN_MODE:
        raise Unauthenticated("an API key is needed: Authorization: Bearer <key>")
    if not is_loopback(peer):
        raise Unauthenticated("the open mode is for loopback only; an API key is needed")
    client = Client.objects.get_or_create(name=LOCAL_CLIENT)[0]
    if not client.is_active:
        raise Unauthenticated(f"the client '{LOCAL_CLIENT}' of the open mode is not active; an API key is needed")
    return client


def is_loopback(peer: str | None) -> bool:
    """Whether a request with this peer came from this machine; behind a proxy here every one does."""
    try:
        return ipaddress.ip_address(peer or "").is_loopback
    except ValueError:
        return False
