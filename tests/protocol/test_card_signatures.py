"""The signatures of agent cards (A2A 1.0, section 8.4), checked by the SDK and without it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.types import AgentCard
from a2a.utils.signing import InvalidSignaturesError, create_signature_verifier
from cryptography.hazmat.primitives import serialization

from tasks_app.a2a import agent_card, card_signing
from tasks_app.a2a.agent_card import Site
from tasks_app.agents import AgentSpec, Extension, Skill
from tasks_app.authentication import Caller
from tasks_app.status import Lane
from tests.issuers import private_key
from tests.protocol.doors import Doors

pytestmark = pytest.mark.django_db
WELL_KNOWN = "/.well-known/agent-card.json"

#: RFC 8785: section 3.2.3 orders the names, appendix B gives the numbers.
NAMES = {"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One"}
NAMES |= {"\U0001f600": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}
NUMBERS = {"a": 333333333.33333329, "b": 1e30, "c": 4.50, "d": 2e-3, "e": 1e-27, "f": 1e21, "g": 9007199254740992.0}
WRITTEN = '{"a":333333333.3333333,"b":1e+30,"c":4.5,"d":0.002,"e":1e-27,"f":1e+21,"g":9007199254740992}'
ORDERED = (
    '{"\\r":"Carriage Return","1":"One","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis",'
    '"\u20ac":"Euro Sign","\U0001f600":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}'
)
SPEC = AgentSpec(
    name="signed",
    handler=lambda ctx: None,
    lane=Lane.IO,
    description='Zeichnet, "schön" / \U0001f58b.',
    skills=(Skill(id="sign", name="Sign", description="Signs.", tags=("pen",), scopes=("pen:use",)),),
    extensions=(Extension(uri="urn:x", params={"names": NAMES, "numbers": NUMBERS, "text": 'a"\\/\b\n\u000f€'}),),
)


def pem(key: Any) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


def site(key: bytes, **fields: Any) -> Site:
    return Site(base_url="https://a2a.example", signing_key=key.decode(), **fields)


def canonical(card: dict[str, Any]) -> str:
    """RFC 8785 of what A2A 1.0 says is signed; independent of the SDK, for texts and what is true or false.

    Numbers stand in the one object whose text is known.
    """

    def written(value: Any) -> str:
        if isinstance(value, dict):
            members = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
            return "{" + ",".join(f"{written(name)}:{written(item)}" for name, item in members) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(written, value)) + "]"
        assert isinstance(value, str | bool)
        return json.dumps(value, ensure_ascii=False)

    marked = json.loads(json.dumps({name: value for name, value in card.items() if name != "signatures"}))
    for extension in marked["capabilities"]["extensions"]:
        if "numbers" in extension.get("params", {}):
            extension["params"]["numbers"] = "NUMBERS"
    return written(marked).replace('"NUMBERS"', WRITTEN)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256", "EdDSA"])
def test_the_sdk_and_a_verifier_of_our_own_accept_the_signature(algorithm: str) -> None:
    from google.protobuf.json_format import MessageToDict

    where = site(pem(private_key(algorithm)))
    card = agent_card.public(SPEC, where)
    signer = card_signing.signer(where.signing_key)
    assert signer is not None
    public = jwt.PyJWK(signer.jwks()["keys"][0])
    # As a client would: from the JSON that is served.
    received = parse_agent_card(json.loads(agent_card.as_json(card)))
    create_signature_verifier(lambda kid, jku: public, [algorithm])(received)
    (signature,) = received.signatures
    header = json.loads(base64.urlsafe_b64decode(signature.protected + "=="))
    jku = "https://a2a.example/.well-known/jwks.json"
    assert header == {"alg": algorithm, "kid": signer.kid, "typ": "JOSE", "jku": jku}
    payload = canonical(MessageToDict(received))
    assert ORDERED in payload
    assert '"securityRequirements":[{"schemes":{"apiKey":{"list":["tasks:read","tasks:write"]}}}' in payload
    whole = f"{signature.protected}.{jwt.utils.base64url_encode(payload.encode()).decode()}.{signature.signature}"
    assert jwt.PyJWS().decode(whole, public, algorithms=[algorithm]) == payload.encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda card: setattr(card, "name", "other"),
        lambda card: setattr(card.supported_interfaces[0], "url", "https://evil.example/"),
        lambda card: card.security_requirements.pop(),
        lambda card: card.skills.add(id="x"),
        lambda card: card.capabilities.ClearField("push_notifications"),
    ],
)
def test_a_card_that_was_changed_is_refused(change: Any) -> None:
    where = site(pem(private_key("ES256")))
    signer = card_signing.signer(where.signing_key)
    assert signer is not None
    card = agent_card.public(SPEC, where)
    verify = create_signature_verifier(lambda kid, jku: jwt.PyJWK(signer.public), ["ES256"])
    verify(card)
    change(card)
    with pytest.raises(InvalidSignaturesError):
        verify(card)


def test_the_extended_card_is_signed_as_well() -> None:
    where = site(pem(private_key("EdDSA")))
    signer = card_signing.signer(where.signing_key)
    assert signer is not None
    spec = AgentSpec(name="a", handler=SPEC.handler, lane=Lane.IO, description="A.", extended_description="More of A.")
    card = agent_card.extended(spec, Caller(1, "a"), where)
    create_signature_verifier(lambda kid, jku: jwt.PyJWK(signer.public), ["EdDSA"])(card)


def test_the_tag_stays_though_a_signature_differs_each_time_and_changes_with_the_key() -> None:
    first, second = pem(private_key("ES256")), pem(private_key("ES256"))
    cards = [agent_card.public(SPEC, site(key)) for key in (first, first, second)]
    tags = [agent_card.etag(card) for card in cards]
    assert len({card.signatures[0].signature for card in cards}) == 3
    assert tags[0] == tags[1] != tags[2]
    assert tags[0].startswith('W/"')


def test_the_server_serves_the_key_that_verifies_its_cards(shut_doors: Doors, settings: Any, tmp_path: Path) -> None:
    assert shut_doors.send("GET", "/.well-known/jwks.json").status_code == 404
    file = tmp_path / "card.pem"
    file.write_bytes(pem(private_key("ES256")))
    settings.A2A_CARD_SIGNING_KEY = str(file)
    reply = shut_doors.send("GET", WELL_KNOWN)
    card: AgentCard = parse_agent_card(reply.json())
    header = json.loads(base64.urlsafe_b64decode(card.signatures[0].protected + "=="))
    jwks = shut_doors.send("GET", header["jku"])
    (key,) = jwks.json()["keys"]
    assert (key["kid"], key["alg"], "d" in key) == (header["kid"], "ES256", False)
    create_signature_verifier(lambda kid, jku: jwt.PyJWK(key), ["ES256"])(card)
    again = shut_doors.send("GET", WELL_KNOWN, headers={"if-none-match": reply.headers["etag"]})
    assert again.status_code == 304


def test_a_key_is_named_by_its_thumbprint_or_as_the_setting_says() -> None:
    """RFC 8037, appendix A.3: the thumbprint of its Ed25519 key."""
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = pem(Ed25519PrivateKey.from_private_bytes(seed)).decode()
    made, named = card_signing.signer(text), card_signing.signer(text, "2026-01")
    assert made is not None
    assert named is not None
    assert made.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert named.jwks()["keys"][0]["kid"] == "2026-01"


def test_what_is_no_key_that_may_sign_is_refused(tmp_path: Path) -> None:
    assert card_signing.signer("") is None
    key = private_key("ES256")
    form, locked = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    bad = [
        b"-----BEGIN nonsense",
        pem(private_key("RS256", bits=1024)),
        key.private_bytes(serialization.Encoding.PEM, form, locked),
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    ]
    for text in bad:
        with pytest.raises(ValueError, match=r"."):
            card_signing.signer(text.decode())
    with pytest.raises(OSError, match="missing"):
        card_signing.signer(str(tmp_path / "missing.pem"))
