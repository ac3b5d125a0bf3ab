"""The signatures of agent cards (A2A 1.0, section 8.4): a JWS over the card's canonical JSON (RFC 7515, RFC 8785).

The SDK canonicalises and signs; here are the key, its name, and its public half. PyJWT is imported where a key is set.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from a2a.types import AgentCard

#: Where verifiers find the public key, below the server's address.
JWKS_PATH = ".well-known/jwks.json"
RSA_MIN_BITS = 2048
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
#: What a key's thumbprint is made of (RFC 7638, section 3.2; RFC 8037, section 2).
_THUMBPRINT = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key, and what its signatures say of it."""

    key: Any
    algorithm: str
    kid: str
    public: dict[str, Any]

    def sign(self, card: AgentCard, *, base_url: str) -> None:
        """Adds the signature of the card as it is now. A curve's signature differs each time it is made."""
        from a2a.utils.signing import ProtectedHeader, create_agent_card_signer

        header = ProtectedHeader(kid=self.kid, alg=self.algorithm, jku=f"{base_url}/{JWKS_PATH}", typ="JOSE")
        create_agent_card_signer(self.key, header)(card)

    def jwks(self) -> dict[str, Any]:
        """The public key as a set of one (RFC 7517, section 5)."""
        return {"keys": [self.public]}


@cache
def signer(setting: str, kid: str = "") -> Signer | None:
    """The signer of this private key, a PEM or the path of one; None for an empty setting.

    ``kid`` is its name, by default its thumbprint. Raises OSError for a file that cannot be read, ValueError for what
    is no key that may sign: elliptic curve P-256, P-384 or P-521, Ed25519, or RSA from 2,048 bits, without a password.
    """
    if not setting:
        return None
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from jwt.algorithms import get_default_algorithms

    pem = setting.encode() if setting.startswith("-----BEGIN") else Path(setting).read_bytes()
    try:
        key = load_pem_private_key(pem, password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None
    algorithm = _algorithm(key)
    made: Any = get_default_algorithms()[algorithm]
    public = made.to_jwk(key.public_key(), as_dict=True)
    public = {name: value for name, value in public.items() if name != "key_ops"}
    name = kid or _thumbprint(public)
    return Signer(key, algorithm, name, {**public, "kid": name, "use": "sig", "alg": algorithm})


def _algorithm(key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= RSA_MIN_BITS:
        return "RS256"
    raise ValueError("it is no key of P-256, P-384, P-521, Ed25519, or RSA from 2,048 bits")


def _thumbprint(public: dict[str, Any]) -> str:
    members = {name: public[name] for name in _THUMBPRINT[public["kty"]]}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
