"""An issuer of tokens, for real: its keys, its tokens, and the HTTP server that gives its public keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER = "https://login.example"
AUDIENCE = "a2a-tests"


def private_key(algorithm: str, *, bits: int = 2048) -> Any:
    """A new key for this algorithm."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class Issuer:
    """Signs tokens with the key it used last, and serves the public halves of those it has not withdrawn."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.keys: dict[str, dict[str, Any]] = {}
        #: How often it was asked for its keys.
        self.asked = 0
        #: What it answers instead of its keys: a status, and a body.
        self.answer: tuple[int, bytes] | None = None
        self.url = ""
        self.rotate(algorithm)

    def rotate(self, algorithm: str = "ES256", *, kid: str = "", **options: Any) -> None:
        """Signs with a new key from now on."""
        self.algorithm, self.kid = algorithm, kid or f"key-{len(self.keys) + 1}"
        self._private = private_key(algorithm, **options)
        public: Any = get_default_algorithms()[algorithm].to_jwk(self._private.public_key(), as_dict=True)
        self.keys[self.kid] = {**public, "kid": self.kid, "use": "sig"}

    def jwks(self) -> dict[str, Any]:
        return {"keys": list(self.keys.values())}

    def token(self, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that is fine, but for these claims; a claim that is ``...`` is left out."""
        now = int(time.time())
        whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300, **claims}
        payload = {name: value for name, value in whole.items() if value is not ...}
        return jwt.encode(
            payload, self._private, algorithm=self.algorithm, headers={"kid": self.kid, **(headers or {})}
        )

    def setting(self, **fields: Any) -> str:
        """The value of A2A_JWT_ISSUERS that accepts its tokens."""
        source = {} if {"jwks", "jwks_file", "jwks_url"} & set(fields) else {"jwks_url": self.url}
        return json.dumps([{"issuer": ISSUER, "audience": AUDIENCE, "alias": "login", **source, **fields}])

    @contextmanager
    def serving(self) -> Iterator[Issuer]:
        """Over HTTP, on loopback; ``url`` is where."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                status, body = outer.answer or (200, json.dumps(outer.jwks()).encode())
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/jwks"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
