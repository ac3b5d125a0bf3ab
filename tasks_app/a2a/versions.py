"""Which version of the protocol a request speaks (A2A 1.0, section 3.6)."""

from __future__ import annotations

from collections.abc import Mapping

from tasks_app.a2a.errors import VersionNotSupportedError

V1_0, V0_3 = "1.0", "0.3"
SUPPORTED = (V1_0, V0_3)
HEADER = "A2A-Version"


def spoken(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """``Major.Minor``, a patch is ignored; nothing said is 0.3. Raises VersionNotSupportedError."""
    said = headers.get(HEADER.lower()) or query.get(HEADER) or V0_3
    version = ".".join(said.strip().split(".")[:2])
    if version not in SUPPORTED:
        raise unsupported(said)
    return version


def check(version: str, *, of: str, to: str = V1_0) -> None:
    """Raises VersionNotSupportedError unless ``of``, which a request of this version uses, belongs ``to`` it."""
    if version != to:
        raise VersionNotSupportedError(f"{HEADER}: {of} is of version {to}; say so in this header")


def unsupported(said: str) -> VersionNotSupportedError:
    return VersionNotSupportedError(f"{HEADER}: '{said[:20]}' is not supported; supported are {', '.join(SUPPORTED)}")
