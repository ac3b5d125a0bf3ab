"""Bearer tokens: JWTs of the issuers that ``A2A_JWT_ISSUERS`` names, and whom each speaks for.

Knows nothing of clients or requests: see ``authentication``. PyJWT is imported by the first token.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tasks_app import jwks, scopes
from tasks_app.jwks import KeySet

#: Every asymmetric algorithm of RFC 7518 and RFC 8037. There are no others: a shared secret could be an issuer's public
#: key, and «none» is no signature.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
#: What is larger is refused before it is looked at.
TOKEN_MAX_CHARS = 8192
SUBJECT_MAX_CHARS = 255
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ALIAS = re.compile(r"[A-Za-z0-9._-]{1,32}")
_SOURCES = ("jwks_url", "jwks_file", "jwks")


class BadToken(Exception):
    """A token that is not accepted; the text says why, and holds nothing of the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Whose tokens are accepted, and how they are read.

    ``issuer`` and ``audience`` are what ``iss`` and ``aud`` must say. Its keys come from exactly one of ``jwks_url``,
    ``jwks_file`` and ``jwks``. ``client_claim`` names the client: one claim and no other, because the same word in two
    claims may mean two of them. ``scope_claim`` holds the scopes; null: its tokens have none and may do all.
    ``create_clients``: a client that is not there is made when its first token comes; else it must have been made
    before. ``alias`` begins the names of those clients. ``openid_configuration`` is shown in agent cards.
    """

    issuer: str
    audience: str
    alias: str = ""
    jwks_url: str = ""
    jwks_file: str = ""
    jwks: Mapping[str, Any] = field(default_factory=dict)
    algorithms: tuple[str, ...] = ALGORITHMS
    client_claim: str = "sub"
    scope_claim: str | None = "scope"
    leeway_s: float = 30.0
    create_clients: bool = True
    openid_configuration: str = ""

    def fetch(self) -> Any:
        """Its JWKS. Raises one of ``jwks.FAILURES``."""
        if self.jwks_url:
            return jwks.from_url(self.jwks_url)
        return jwks.from_file(self.jwks_file) if self.jwks_file else self.jwks


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a token speaks for; ``scopes`` None is all; ``expires_at`` in seconds since the epoch."""

    issuer: Issuer
    subject: str
    scopes: frozenset[str] | None
    expires_at: float

    @property
    def name(self) -> str:
        """What its client is called, if it has to be made."""
        return f"{self.issuer.alias}:{self.subject}"


@cache
def issuers(text: str) -> dict[str, Issuer]:
    """The issuers in a setting, by ``iss``. Raises ValueError naming what is wrong with the setting."""
    if not text:
        return {}
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(data, list):
        raise ValueError("it must be a list of objects")
    made = [_issuer(item, f"[{index}]") for index, item in enumerate(data)]
    for name in ("issuer", "alias"):
        values = [getattr(item, name) for item in made]
        if len(set(values)) < len(values):
            raise ValueError(f"two issuers have the same {name}")
    return {item.issuer: item for item in made}


def _issuer(data: Any, path: str) -> Issuer:
    if not isinstance(data, dict):
        raise ValueError(f"{path}: must be an object")
    known = {item.name: item for item in dataclasses.fields(Issuer)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ValueError(f"{path}.{unknown[0]}: unknown; there are: {', '.join(known)}")
    for name, value in data.items():
        _check_type(name, value, f"{path}.{name}")
    for name in ("issuer", "audience"):
        if not data.get(name):
            raise ValueError(f"{path}.{name}: is required")
    if "algorithms" in data:
        data = {**data, "algorithms": tuple(data["algorithms"])}
    made = Issuer(**{"alias": urlsplit(data["issuer"]).hostname or data["issuer"][:32], **data})
    _check(made, path)
    return made


def _check_type(name: str, value: Any, path: str) -> None:
    kinds: dict[str, Any] = {
        "algorithms": list,
        "jwks": dict,
        "scope_claim": str | None,
        "leeway_s": int | float,
        "create_clients": bool,
    }
    if not isinstance(value, kinds.get(name, str)) or (name == "leeway_s" and isinstance(value, bool)):
        raise ValueError(f"{path}: is of the wrong type")


def _check(made: Issuer, path: str) -> None:
    if not _ALIAS.fullmatch(made.alias):
        raise ValueError(f"{path}.alias: must be at most 32 letters, digits, dots, hyphens and underscores")
    if sum(bool(getattr(made, name)) for name in _SOURCES) != 1:
        raise ValueError(f"{path}: must have exactly one of {', '.join(_SOURCES)}")
    if made.jwks:
        jwks.usable(made.jwks)
    parts = urlsplit(made.jwks_url)
    if made.jwks_url and parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError(f"{path}.jwks_url: must begin with https://")
    wrong = [name for name in made.algorithms if name not in ALGORITHMS]
    if wrong or not made.algorithms:
        raise ValueError(f"{path}.algorithms: must be some of {', '.join(ALGORITHMS)}")
    if not made.client_claim or made.scope_claim == "":
        raise ValueError(f"{path}: client_claim and scope_claim may not be empty")
    if not 0 <= made.leeway_s <= 300:
        raise ValueError(f"{path}.leeway_s: must be from 0 to 300")


def verify(token: str, known: Mapping[str, Issuer]) -> Identity:
    """Whom this token speaks for. May ask its issuer for keys, see ``jwks``.

    Raises :class:`BadToken` for one that is malformed, too large, of another issuer or audience, not signed by a key of
    its issuer, not yet valid or expired (RFC 7519, section 7.2; RFC 8725).
    """
    if len(token) > TOKEN_MAX_CHARS:
        raise BadToken(f"the token has more than {TOKEN_MAX_CHARS} characters")
    import jwt

    try:
        header = jwt.get_unverified_header(token)
        # Only to know whose keys to look at: what it claims is checked below.
        claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        issuer = known.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise BadToken("the token is of no issuer that is accepted here")
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise BadToken("the token is signed by an algorithm that is not accepted here")
        key = keys_of(issuer).find(header.get("kid"), str(algorithm))
        if key is None:
            raise BadToken("the token is signed by a key that its issuer does not name")
        claims = jwt.decode(
            token,
            key,
            algorithms=[str(algorithm)],
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=issuer.leeway_s,
            options={"require": ["exp", "iss", "aud", issuer.client_claim], "enforce_minimum_key_length": True},
        )
    except jwt.ExpiredSignatureError:
        raise BadToken("the token has expired") from None
    except jwt.ImmatureSignatureError:
        raise BadToken("the token is not valid yet") from None
    except jwt.InvalidAudienceError:
        raise BadToken("the token is for another audience") from None
    except jwt.MissingRequiredClaimError as error:
        raise BadToken(f"the token has no claim '{error.claim}'") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadToken(f"the token is not accepted: {type(error).__name__}") from None
    return _identity(issuer, claims)


def _identity(issuer: Issuer, claims: dict[str, Any]) -> Identity:
    subject = claims[issuer.client_claim]
    if not (isinstance(subject, str) and 0 < len(subject) <= SUBJECT_MAX_CHARS and subject.isprintable()):
        raise BadToken(f"the token's claim '{issuer.client_claim}' names no client")
    held = None if issuer.scope_claim is None else scopes.of_claim(claims.get(issuer.scope_claim))
    return Identity(issuer=issuer, subject=subject, scopes=held, expires_at=float(claims["exp"]))


_key_sets: dict[str, tuple[Issuer, KeySet]] = {}


def keys_of(issuer: Issuer) -> KeySet:
    """The keys of an issuer, one set for the whole process."""
    known = _key_sets.get(issuer.issuer)
    if known is None or known[0] is not issuer:
        # Two threads that come together may make two; one of them stays.
        known = _key_sets[issuer.issuer] = (issuer, KeySet(issuer.fetch, name=issuer.alias))
    return known[1]


def forget() -> None:
    """Asks every issuer for its keys again: for tests."""
    _key_sets.clear()
