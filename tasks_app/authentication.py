"""Who asks, and what for: one implementation for every door.

API keys, bearer tokens of configured issuers (``tokens``), or the client ``local`` in the open mode on loopback.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from tasks_app import scopes, tokens
from tasks_app.agents import AgentSpec
from tasks_app.models import ApiKey, Client
from tasks_app.models.client import LOCAL_CLIENT

log = logging.getLogger(__name__)

#: An answer is remembered this long: what a revoked key is good for after its revocation, and how long a client's old
#: limits count after they were changed, in seconds. Never past the end of a key or a token.
REMEMBER_S = 5.0
#: How often it is written down that a key was used.
USED_EVERY = timedelta(minutes=1)
KEY_PREFIX = "a2a_"
REALM = 'Bearer realm="a2a"'
#: A proxy adds one of these; then the peer's address says nothing of who asks.
FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"})
#: What may not stand in a quoted text of a challenge (RFC 6750, section 3).
_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")


class Unauthenticated(Exception):
    """No credential where one is needed, or one that is unknown, expired or revoked."""

    def __init__(self, message: str, *, error: str = "") -> None:
        """``error`` is RFC 6750's code, where a credential was sent."""
        super().__init__(message)
        self.error = error

    @property
    def challenge(self) -> str:
        """What 401 says in ``WWW-Authenticate`` (RFC 6750, section 3)."""
        said = f', error="{self.error}", error_description="{_UNQUOTABLE.sub("", str(self))}"' if self.error else ""
        return f"{REALM}{said}"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": self.challenge}


class Forbidden(Exception):
    """The caller is known, and its credential lacks these scopes: 403, or PERMISSION_DENIED."""

    def __init__(self, missing: frozenset[str], needed: frozenset[str]) -> None:
        super().__init__(f"the credential lacks {', '.join(sorted(missing))}")
        self.needed = needed

    @property
    def headers(self) -> dict[str, str]:
        """What goes with HTTP's 403: all that the request needs (RFC 6750, section 3.1)."""
        needed = " ".join(sorted(self.needed))
        return {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{needed}"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request belongs to, how much that client may submit, and what its credential is good for.

    None is as much as it likes, and everything.
    """

    client_id: int
    name: str
    submit_rate_per_s: float | None = None
    max_queued: int | None = None
    scopes: frozenset[str] | None = None
    #: How many bytes of files its client may bring before it has as many as it may.
    storage_left_bytes: int | None = None

    @classmethod
    def of(cls, client: Client, scopes: frozenset[str] | None = None) -> Caller:
        """Who speaks for this client."""
        limit = client.max_storage_bytes
        left_bytes = None if limit is None else max(0, limit - client.stored_bytes)
        return cls(client.pk, client.name, client.submit_rate_per_s, client.max_queued, scopes, left_bytes)

    @property
    def is_authenticated(self) -> bool:
        """What DRF's permission classes ask."""
        return True


class _Credential(NamedTuple):
    text: str
    is_bearer: bool


class _Found(NamedTuple):
    client: Client
    scopes: frozenset[str] | None = None
    #: How long it still counts, in seconds; None: for ever.
    left_s: float | None = None


_known: dict[bytes, tuple[float, Caller]] = {}


def remembered(headers: Mapping[str, str], peer: str | None) -> Caller | None:
    """The caller, if it was identified a moment ago; None if the database must be asked. Never waits."""
    found = _known.get(_cache_key(headers, peer))
    return found[1] if found is not None and found[0] > time.monotonic() else None


def identify(headers: Mapping[str, str], peer: str | None) -> Caller:
    """The caller of a request with these headers, by small names, from this address.

    Asks the database and may ask a token's issuer for its keys: not for an event loop. Raises :class:`Unauthenticated`.
    """
    try:
        found = _found(headers, peer)
    except Unauthenticated as error:
        log.warning("refused a request from %s: %s", peer, error)
        raise
    client = found.client
    caller = Caller.of(client, found.scopes)
    if len(_known) > 10_000:
        _known.clear()
    for_s = REMEMBER_S if found.left_s is None else min(REMEMBER_S, found.left_s)
    _known[_cache_key(headers, peer)] = (time.monotonic() + for_s, caller)
    return caller


def check_scopes(caller: Caller, spec: AgentSpec | None = None, skill: str = "", *, write: bool) -> None:
    """Raises :class:`Forbidden` if the caller's credential is not good for this.

    Every request needs ``tasks:read``, or ``tasks:write`` where it changes something. One that gives work to an agent
    (a new task, an answer, a rerun) names the agent, and needs the scopes of the skill that it asks for as well;
    where it asks for none, those of every skill, because the agent may use any. Raises
    :class:`tasks_app.agents.UnknownSkill`.
    """
    needed = {scopes.WRITE if write else scopes.READ}
    if spec is not None:
        needed |= spec.scopes_for(skill)
    if caller.scopes is not None and not needed <= caller.scopes:
        error = Forbidden(frozenset(needed - caller.scopes), frozenset(needed))
        log.warning("refused a request of the client %s: %s", caller.name, error)
        raise error


def forget() -> None:
    """Asks again for everybody: tests, and a process whose database changed."""
    _known.clear()
    tokens.forget()


def _found(headers: Mapping[str, str], peer: str | None) -> _Found:
    credential = _credential(headers)
    if credential is None:
        return _local(headers, peer)
    if credential.is_bearer and not credential.text.startswith(KEY_PREFIX) and settings.A2A_JWT_ISSUERS:
        return _of_token(credential.text)
    return _of_key(credential.text)


def _credential(headers: Mapping[str, str]) -> _Credential | None:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    is_bearer = scheme.lower() == "bearer"
    text = (text if is_bearer else headers.get("x-api-key", "")).strip()
    return _Credential(text, is_bearer) if text else None


def _cache_key(headers: Mapping[str, str], peer: str | None) -> bytes:
    # Namespaces, so that no credential reads like another kind, or like an address.
    credential = _credential(headers)
    if credential is None:
        return ApiKey.hash(f"peer {peer} {FORWARDED.isdisjoint(headers)}")
    return ApiKey.hash(f"{'bearer' if credential.is_bearer else 'key'} {credential.text}")


def _of_key(key: str) -> _Found:
    prefix = key.removeprefix(KEY_PREFIX).partition("_")[0]
    found = ApiKey.objects.in_use().filter(prefix=prefix[:16], digest=ApiKey.hash(key), client__is_active=True)
    # PostgreSQL refuses to compare with a NUL.
    row = None if "\x00" in key else found.select_related("client").first()
    if row is None:
        raise Unauthenticated("the API key is unknown, expired or revoked", error="invalid_token")
    now = timezone.now()
    if row.last_used_at is None or row.last_used_at < now - USED_EVERY:
        # Of those that come together one writes.
        unseen = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
        ApiKey.objects.filter(unseen, pk=row.pk).update(last_used_at=now)
    left_s = None if row.expires_at is None else (row.expires_at - now).total_seconds()
    return _Found(row.client, frozenset(row.scopes) or None, left_s)


def _of_token(token: str) -> _Found:
    try:
        identity = tokens.verify(token, tokens.issuers(settings.A2A_JWT_ISSUERS))
    except tokens.BadToken as error:
        raise Unauthenticated(str(error), error="invalid_token") from error
    names = {"issuer": identity.issuer.issuer, "subject": identity.subject}
    client = Client.objects.filter(**names).first()
    if client is None and identity.issuer.create_clients:
        client = Client.made_for(**names, name=identity.name)
    if client is None or not client.is_active:
        raise Unauthenticated("the token's client is not known here, or not active", error="invalid_token")
    return _Found(client, identity.scopes, identity.expires_at - time.time())


def _local(headers: Mapping[str, str], peer: str | None) -> _Found:
    if not settings.A2A_OPEN_MODE:
        raise Unauthenticated("an API key is needed: Authorization: Bearer <key>")
    if not is_from_here(headers, peer):
        raise Unauthenticated("the open mode is for loopback only, and not through a proxy; an API key is needed")
    client = Client.objects.get_or_create(name=LOCAL_CLIENT)[0]
    if not client.is_active:
        raise Unauthenticated(f"the client '{LOCAL_CLIENT}' of the open mode is not active; an API key is needed")
    return _Found(client)


def is_from_here(headers: Mapping[str, str], peer: str | None) -> bool:
    """Whether a request came from this machine, and not through a proxy on it."""
    try:
        return ipaddress.ip_address(peer or "").is_loopback and FORWARDED.isdisjoint(headers)
    except ValueError:
        return False
