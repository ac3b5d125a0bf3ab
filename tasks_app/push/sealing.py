"""Secrets at rest: sealed with Fernet (AES-128-CBC and HMAC-SHA256) under keys that the database does not hold.

The first key of ``A2A_SECRET_KEYS`` seals and all of them open; last of all one derived from Django's ``SECRET_KEY``,
which seals where no other is set.
"""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class Unopenable(Exception):
    """Sealed with a key that is not set any more, or damaged."""


def seal(secret: bytes) -> bytes:
    """The secret as it may be stored."""
    return _fernet().encrypt(secret)


def unseal(sealed: bytes) -> bytes:
    """The secret. Raises :class:`Unopenable`."""
    try:
        return _fernet().decrypt(bytes(sealed))
    except InvalidToken:
        raise Unopenable("a secret was sealed with a key that A2A_SECRET_KEYS does not hold") from None


def reseal(sealed: bytes) -> bytes:
    """The same secret, sealed with the first key. Raises :class:`Unopenable`."""
    return seal(unseal(sealed))


def _fernet() -> MultiFernet:
    return _made(tuple(settings.A2A_SECRET_KEYS), settings.SECRET_KEY)


@lru_cache(maxsize=4)
def _made(keys: tuple[str, ...], secret_key: str) -> MultiFernet:
    return MultiFernet([*(Fernet(key) for key in keys), Fernet(_derived(secret_key))])


def _derived(secret_key: str) -> bytes:
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"a2a-task-manager secrets at rest")
    return base64.urlsafe_b64encode(hkdf.derive(secret_key.encode()))
