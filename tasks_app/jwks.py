"""The public keys of a token issuer: fetched where its setting says and nowhere else, kept, and asked for again.

PyJWT has a client for this, which drops its keys when they are old and the issuer is away, and asks it once per
request then. Here an issuer that is away costs nobody but the one request that asks.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jwt import PyJWK

log = logging.getLogger(__name__)

#: Keys older than this are asked for again, in seconds: so long may a key that was withdrawn still count.
MAX_AGE_S = 300.0
#: No issuer is asked more often, in seconds, whoever sends tokens of keys that are unknown.
ASK_AGAIN_S = 10.0
TIMEOUT_S = 5.0
MAX_BYTES = 256 * 1024
#: The key types, and what their algorithms' names begin with (RFC 7518, section 3.1; RFC 8037). None is symmetric.
FAMILIES = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}

#: What only a private or a symmetric key has; a set that holds one by mistake still has its public half.
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
FAILURES = (OSError, ValueError, RecursionError)

Fetch = Callable[[], Any]


class KeySet:
    """The keys of one issuer, for all threads. ``fetch`` gives its JWKS (RFC 7517, section 5), or raises
    one of ``FAILURES``."""

    def __init__(self, fetch: Fetch, *, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._name = name
        self._clock = clock
        self._keys: list[Mapping[str, Any]] = []
        self._made: dict[tuple[str | None, str], PyJWK] = {}
        self._loaded_at = self._asked_at = float("-inf")
        #: Held by the one that asks.
        self._asking = threading.Lock()

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of a token with this header; None if the issuer has none, or several where none is named.

        Asks the issuer if what is known of it is old or does not hold the key: may wait ``TIMEOUT_S``.
        """
        if self._clock() - self._loaded_at > MAX_AGE_S:
            # Where there are keys, the others go on with them.
            self._ask(wait=not self._keys)
        return self._pick(kid, algorithm) or (self._pick(kid, algorithm) if self._ask(wait=True) else None)

    def _ask(self, *, wait: bool) -> bool:
        """Whether the keys may be others now."""
        if not self._asking.acquire(blocking=wait):
            return False
        try:
            now = self._clock()
            if now - self._asked_at < ASK_AGAIN_S:
                # Another thread may have asked while this one waited.
                return True
            self._asked_at = now
            self._keys, self._made = usable(self._fetch()), {}
            self._loaded_at = now
            return True
        except FAILURES as error:
            kept = f"its {len(self._keys)} keys are kept" if self._keys else "its tokens are refused"
            log.warning("the keys of %s cannot be had, %s: %s: %s", self._name, kept, type(error).__name__, error)
            return False
        finally:
            self._asking.release()

    def _pick(self, kid: str | None, algorithm: str) -> PyJWK | None:
        from jwt import PyJWK, PyJWTError

        made, keys = self._made, self._keys
        if (kid, algorithm) not in made:
            fitting = [key for key in keys if kid in (None, key.get("kid")) and _fits(key, algorithm)]
            if len(fitting) != 1:
                return None
            try:
                public = {name: value for name, value in fitting[0].items() if name not in PRIVATE}
                made[kid, algorithm] = PyJWK(public, algorithm=algorithm)
            except PyJWTError as error:
                log.warning("a key of %s cannot be used: %s", self._name, type(error).__name__)
                return None
        return made[kid, algorithm]


def usable(jwks: Any) -> list[Mapping[str, Any]]:
    """The keys that may check signatures. Raises ValueError for what is no set of keys, or holds none of them."""
    keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(keys, list):
        raise ValueError('it is no JWKS: {"keys": [...]}')
    found = [key for key in keys if isinstance(key, Mapping) and key.get("kty") in FAMILIES and _signs(key)]
    if not found:
        raise ValueError("the JWKS holds no public key for signatures")
    return found


def _signs(key: Mapping[str, Any]) -> bool:
    return key.get("use") in (None, "sig")


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    return key.get("alg") in (None, algorithm) and algorithm.startswith(FAMILIES[key["kty"]])


def from_url(url: str) -> Any:
    """The JSON at this address. Follows no redirect, reads no more than ``MAX_BYTES``, waits ``TIMEOUT_S``."""
    import httpx

    until, body = time.monotonic() + TIMEOUT_S, b""
    try:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client, client.stream("GET", url) as reply:
            reply.raise_for_status()
            for chunk in reply.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"the answer has more than {MAX_BYTES} bytes")
                if time.monotonic() > until:
                    raise TimeoutError("the answer takes too long")
    except httpx.HTTPError as error:
        raise OSError(str(error)) from error
    return json.loads(body)


def from_file(path: str) -> Any:
    """The JSON in this file."""
    return json.loads(Path(path).read_bytes())
