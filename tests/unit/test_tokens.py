"""Bearer tokens: whose are accepted, and what their issuers are asked (RFC 7519, RFC 7517, RFC 8725)."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from tasks_app import jwks, tokens
from tasks_app.jwks import KeySet
from tasks_app.tokens import BadToken, Identity, issuers, verify
from tests.issuers import AUDIENCE, ISSUER, Issuer


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().serving() as made:
        yield made


def check(issuer: Issuer, token: str, **fields: Any) -> Identity:
    return verify(token, issuers(issuer.setting(**fields)))


def refused(issuer: Issuer, token: str, **fields: Any) -> str:
    """Why it is."""
    with pytest.raises(BadToken) as caught:
        check(issuer, token, **fields)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
def test_every_kind_of_key_is_accepted(algorithm: str) -> None:
    with Issuer(algorithm).serving() as issuer:
        identity = check(issuer, issuer.token(scope="tasks:read tasks:write"))
    assert (identity.subject, identity.name) == ("alice", "login:alice")
    assert identity.scopes == frozenset({"tasks:read", "tasks:write"})
    assert 290 < identity.expires_at - time.time() <= 300


def test_keys_may_stand_in_the_setting_or_in_a_file(issuer: Issuer, tmp_path: Path) -> None:
    assert check(issuer, issuer.token(), jwks=issuer.jwks()).subject == "alice"
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(issuer.jwks()))
    assert check(issuer, issuer.token(), jwks_file=str(file)).subject == "alice"
    assert issuer.asked == 0


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "https://evil.example"}, "of no issuer that is accepted"),
        ({"iss": ...}, "of no issuer that is accepted"),
        ({"iss": ISSUER + "/"}, "of no issuer that is accepted"),
        ({"iss": {"a": 1}}, "InvalidIssuerError|of no issuer"),
        ({"aud": "another"}, "another audience"),
        ({"aud": [AUDIENCE + "x", "b"]}, "another audience"),
        ({"aud": ...}, "no claim 'aud'"),
        ({"exp": 1}, "has expired"),
        ({"exp": ...}, "no claim 'exp'"),
        ({"exp": "soon"}, "not accepted"),
        ({"exp": float("inf")}, "not accepted"),
        ({"nbf": 4_000_000_000}, "not valid yet"),
        ({"iat": 4_000_000_000}, "not valid yet"),
        ({"sub": ...}, "no claim 'sub'"),
        ({"sub": ""}, "names no client"),
        ({"sub": "a\x00b"}, "names no client"),
        ({"sub": "x" * 256}, "names no client"),
    ],
)
def test_a_token_that_is_not_for_us_is_refused_and_told_why(issuer: Issuer, claims: dict[str, Any], why: str) -> None:
    token = issuer.token(**claims) if not isinstance(claims.get("iss"), dict) else _raw(issuer, claims)
    text = refused(issuer, token)
    assert any(part in text for part in why.split("|")), text


def _raw(issuer: Issuer, claims: dict[str, Any]) -> str:
    """Signed, with what PyJWT itself would not put in."""
    whole = {**jwt.decode(issuer.token(), options={"verify_signature": False}), **claims}
    return jwt.api_jws.encode(json.dumps(whole).encode(), issuer._private, issuer.algorithm, {"kid": issuer.kid})


def test_one_of_several_audiences_is_enough_and_clocks_may_differ_by_the_leeway(issuer: Issuer) -> None:
    assert check(issuer, issuer.token(aud=["other", AUDIENCE])).subject == "alice"
    late = issuer.token(exp=int(time.time()) - 10)
    assert check(issuer, late, leeway_s=30).subject == "alice"
    assert "expired" in refused(issuer, late, leeway_s=5)


def test_a_signature_of_another_key_is_refused(issuer: Issuer) -> None:
    forger = Issuer()
    assert "not accepted: InvalidSignatureError" in refused(issuer, forger.token())
    head, body, _ = issuer.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "root"}).encode()).rstrip(b"=").decode()
    assert "not accepted" in refused(issuer, f"{head}.{other}.{issuer.token().split('.')[2]}")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512", "None", "nOnE", "", None, 5, ["ES256"]])
def test_no_algorithm_but_an_asymmetric_one_is_looked_at(issuer: Issuer, algorithm: Any) -> None:
    """RFC 8725, section 2.1: a public key is nobody's shared secret."""
    public = issuer._private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = _segment({"alg": algorithm, "kid": issuer.kid, "typ": "JWT"})
    body = issuer.token().split(".")[1]
    signed = jwt.utils.base64url_encode(
        jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(f"{header}.{body}".encode(), public)
    ).decode()
    for signature in ("", signed):
        assert "not accepted" in refused(issuer, f"{header}.{body}.{signature}")
    assert issuer.asked == 0


def test_a_key_checks_only_what_its_own_algorithm_signed(issuer: Issuer) -> None:
    """RFC 8725, section 3.1."""
    issuer.rotate("RS256", kid="rsa")
    issuer.keys["rsa"]["alg"] = "RS256"
    issuer.algorithm = "PS256"
    assert "does not name" in refused(issuer, issuer.token())
    issuer.algorithm = "RS256"
    assert check(issuer, issuer.token()).subject == "alice"
    assert "algorithm that is not accepted" in refused(issuer, issuer.token(), algorithms=["ES256"])


def test_a_symmetric_key_in_the_set_is_not_one(issuer: Issuer) -> None:
    secret = "s" * 64
    issuer.keys = {"shared": {"kty": "oct", "kid": "shared", "k": secret, "alg": "HS256"}, **issuer.keys}
    forged = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": 4e9}, secret, headers={"kid": "shared"})
    assert "algorithm" in refused(issuer, forged)
    issuer.kid = "shared"
    assert "does not name" in refused(issuer, issuer.token())


def test_a_short_rsa_key_is_not_trusted() -> None:
    with Issuer().serving() as issuer:
        issuer.rotate("RS256", bits=1024)
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = issuer.token()
        assert "InvalidKeyError" in refused(issuer, token)


def test_the_address_of_keys_in_a_token_is_never_asked(issuer: Issuer) -> None:
    """RFC 8725, section 3.10."""
    with Issuer().serving() as forger:
        header = {"jku": forger.url, "x5u": forger.url, "jwk": next(iter(forger.keys.values()))}
        refused(issuer, forger.token(headers=header))
        assert forger.asked == 0


def test_a_token_without_a_key_id_is_accepted_where_there_is_one_key(issuer: Issuer) -> None:
    issuer.keys["key-1"].pop("kid")
    bare = jwt.encode(
        {"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": time.time() + 60}, issuer._private, algorithm="ES256"
    )
    assert check(issuer, bare).subject == "a"
    issuer.rotate()
    tokens.forget()
    assert "does not name" in refused(issuer, bare)


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b.c", "é.é.é", "\x00", "eyJ9.e30.", "e30.e30.e30", "e30." * 2000, "x" * 8192, "[" * 900],
)
def test_what_is_no_token_is_refused(issuer: Issuer, token: str) -> None:
    assert refused(issuer, token)
    assert issuer.asked == 0


def test_deep_nesting_and_wrong_types_are_refused(issuer: Issuer) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 4000).rstrip(b"=").decode()
    for header in (
        deep,
        _segment([]),
        _segment({"alg": "ES256", "kid": {}}),
        _segment({"alg": "ES256", "crit": ["x"]}),
    ):
        assert refused(issuer, f"{header}.{issuer.token().split('.')[1]}.AAAA")
        assert refused(issuer, f"{issuer.token().split('.')[0]}.{header}.AAAA")


def test_an_oversized_token_is_not_even_decoded(issuer: Issuer) -> None:
    assert "more than 8192 characters" in refused(issuer, issuer.token(padding="x" * 7000))


@pytest.mark.parametrize(
    ("fields", "claims", "held"),
    [
        ({}, {"scope": "a b  c"}, {"a", "b", "c"}),
        ({}, {"scope": ["a", 5, "b"]}, {"a", "b"}),
        ({}, {"scp": ["a"]}, set()),
        ({"scope_claim": "scp"}, {"scp": ["a"], "scope": "b"}, {"a"}),
        ({}, {"scope": {"a": 1}}, set()),
        ({}, {}, set()),
        ({"scope_claim": None}, {"scope": "a"}, None),
    ],
)
def test_scopes_are_read_from_the_claim_that_is_named(
    issuer: Issuer, fields: dict[str, Any], claims: dict[str, Any], held: set[str] | None
) -> None:
    assert check(issuer, issuer.token(**claims), **fields).scopes == held


def test_one_claim_names_the_client_and_no_other_stands_in_for_it(issuer: Issuer) -> None:
    token = issuer.token(sub="a-person", client_id="a-program")
    assert check(issuer, token, client_claim="client_id").subject == "a-program"
    assert "no claim 'azp'" in refused(issuer, token, client_claim="azp")


# The issuer's keys ----------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> KeySet:
    return KeySet(lambda: jwks.from_url(issuer.url), name="login", clock=clock)


def test_keys_are_asked_for_once_and_again_when_they_are_old(issuer: Issuer, keys: KeySet, clock: Clock) -> None:
    for _ in range(50):
        assert keys.find("key-1", "ES256")
    assert issuer.asked == 1
    clock.now += jwks.MAX_AGE_S + 1
    assert keys.find("key-1", "ES256")
    assert issuer.asked == 2


def test_a_new_key_is_found_at_once_and_a_withdrawn_one_is_forgotten(
    issuer: Issuer, keys: KeySet, clock: Clock
) -> None:
    assert keys.find("key-1", "ES256")
    clock.now += jwks.ASK_AGAIN_S
    issuer.rotate()
    del issuer.keys["key-1"]
    assert keys.find("key-2", "ES256")
    assert issuer.asked == 2
    assert keys.find("key-1", "ES256") is None


def test_a_flood_of_unknown_keys_does_not_reach_the_issuer(issuer: Issuer, keys: KeySet, clock: Clock) -> None:
    threads = [threading.Thread(target=keys.find, args=(f"unknown-{n}", "ES256")) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(1000):
        assert keys.find(f"unknown-{n}", "ES256") is None
    assert issuer.asked == 1
    clock.now += jwks.ASK_AGAIN_S
    for n in range(1000):
        assert keys.find(f"unknown-{n}", "ES256") is None
    assert issuer.asked == 2
    assert len(keys._made) == 0


@pytest.mark.parametrize(
    "answer",
    [
        (500, b""),
        (302, b""),
        (200, b"{"),
        (200, b"[]"),
        (200, b'{"keys": []}'),
        (200, b"[" * 100_000),
        (200, b"x" * 300_000),
    ],
)
def test_an_outage_of_the_issuer_keeps_the_keys_there_are(
    issuer: Issuer, keys: KeySet, clock: Clock, answer: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    assert keys.find("key-1", "ES256")
    issuer.answer = answer
    clock.now += jwks.MAX_AGE_S + 1
    for _ in range(10):
        assert keys.find("key-1", "ES256")
    assert issuer.asked == 2
    assert "its 1 keys are kept" in caplog.text
    issuer.answer = None
    issuer.rotate()
    assert keys.find("key-2", "ES256") is None
    clock.now += jwks.ASK_AGAIN_S
    assert keys.find("key-2", "ES256")


def test_an_issuer_that_is_away_from_the_start_is_asked_now_and_then(clock: Clock) -> None:
    asked: list[float] = []

    def fetch() -> Any:
        asked.append(clock.now)
        return jwks.from_url("http://127.0.0.1:9/")

    keys = KeySet(fetch, name="away", clock=clock)
    for _ in range(5):
        assert keys.find("key-1", "ES256") is None
    clock.now += jwks.ASK_AGAIN_S
    assert keys.find("key-1", "ES256") is None
    assert len(asked) == 2


def test_while_one_thread_asks_the_others_go_on_with_the_keys_there_are(issuer: Issuer, clock: Clock) -> None:
    asks, answer = threading.Event(), threading.Event()

    def fetch() -> Any:
        if issuer.asked:
            asks.set()
            assert answer.wait(30)
        return jwks.from_url(issuer.url)

    keys = KeySet(fetch, name="slow", clock=clock)
    assert keys.find("key-1", "ES256")
    clock.now += jwks.MAX_AGE_S + 1
    slow = threading.Thread(target=keys.find, args=("key-1", "ES256"))
    slow.start()
    assert asks.wait(30)
    assert keys.find("key-1", "ES256")
    assert issuer.asked == 1
    answer.set()
    slow.join()
    assert issuer.asked == 2


def test_private_halves_in_a_set_are_left_out(issuer: Issuer, keys: KeySet) -> None:
    private: Any = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(issuer._private, as_dict=True)
    assert "d" in private
    issuer.keys["key-1"] |= private
    assert check(issuer, issuer.token()).subject == "alice"


# The setting ----------------------------------------------------------------------------------------------------------

FINE: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": "https://login.example/jwks"}


def test_a_setting_of_three_words_is_enough() -> None:
    (made,) = issuers(json.dumps([FINE])).values()
    assert (made.alias, made.client_claim, made.scope_claim, made.create_clients) == (
        "login.example",
        "sub",
        "scope",
        True,
    )
    assert issuers("") == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"issuer": ""}, "[0].issuer: is required"),
        ({"audience": ""}, "[0].audience: is required"),
        ({"audience": ["a"]}, "[0].audience: is of the wrong type"),
        ({"jwks_uri": "x"}, "[0].jwks_uri: unknown"),
        ({"jwks_url": ""}, "exactly one of"),
        ({"jwks_file": "keys.json"}, "exactly one of"),
        ({"jwks_url": "http://login.example/jwks"}, "must begin with https://"),
        ({"jwks_url": "file:///etc/passwd"}, "must begin with https://"),
        ({"algorithms": ["HS256"]}, "must be some of"),
        ({"algorithms": ["none"]}, "must be some of"),
        ({"algorithms": []}, "must be some of"),
        ({"alias": "a:b"}, "[0].alias"),
        ({"leeway_s": 3600}, "[0].leeway_s"),
        ({"leeway_s": True}, "[0].leeway_s"),
        ({"client_claim": ""}, "may not be empty"),
        ({"create_clients": "no"}, "[0].create_clients: is of the wrong type"),
        ({"jwks_url": "", "jwks": {"keys": [{"kty": "oct", "k": "x"}]}}, "no public key"),
    ],
)
def test_a_wrong_setting_names_what_is_wrong(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        issuers(json.dumps([{**FINE, **change}]))


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '"x"', json.dumps([FINE, FINE])])
def test_a_setting_that_is_no_list_of_different_issuers_is_wrong(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|list|object|same"):
        issuers(text)


def _segment(data: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def test_a_web_process_without_issuers_and_signatures_does_not_even_import_the_library() -> None:
    code = """
import sys
from a2a_project.asgi import application
from tasks_app import agents
from tasks_app.a2a import agent_card
agent_card.rendered("echo", agent_card.Site.at("https://a2a.example"))
assert "jwt" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_web_process_whose_issuers_cannot_be_read_does_not_start() -> None:
    code = "import a2a_project.asgi"
    env = {**os.environ, "A2A_JWT_ISSUERS": '[{"issuer":"https://login.example","audience":"a2a"}]'}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "must have exactly one of jwks_url, jwks_file, jwks" in done.stderr
