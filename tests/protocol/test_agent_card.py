"""Agent cards (A2A 1.0, sections 4.4 and 8)."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3 import types as v0_3
from a2a.types import AgentCard
from a2a.utils.proto_utils import validate_proto_required_fields

from tasks_app import agents
from tasks_app.a2a import agent_card, extensions
from tasks_app.a2a.agent_card import Site
from tasks_app.a2a.errors import ExtensionSupportRequiredError, UnsupportedOperationError
from tasks_app.a2a.http import STARTED_AT_S
from tasks_app.agents import AgentSpec, Extension, Skill
from tasks_app.authentication import Caller
from tasks_app.status import Lane
from tests.protocol.doors import EXTENSION, Doors

pytestmark = pytest.mark.django_db
WELL_KNOWN = "/.well-known/agent-card.json"


def path_of(agent: str) -> str:
    return f"/a2a/{agent}{WELL_KNOWN}"


@pytest.mark.parametrize("agent", ["echo", "sleep", "sleep-cpu", "imaging"])
def test_the_sdk_reads_every_agents_card(shut_doors: Doors, agent: str) -> None:
    reply = shut_doors.send("GET", path_of(agent), headers={"host": "127.0.0.1:8123"})
    spec, card = agents.get(agent), parse_agent_card(reply.json())
    assert reply.headers["content-type"] == "application/json"
    assert (card.name, card.description, card.version) == (agent, spec.description, spec.version)
    place = f"http://127.0.0.1:8123/a2a/{agent}"
    assert [(i.url, i.protocol_binding, i.protocol_version) for i in card.supported_interfaces] == [
        (f"{place}/", "JSONRPC", "1.0"),
        (place, "HTTP+JSON", "1.0"),
        (f"{place}/", "JSONRPC", "0.3"),
        (place, "HTTP+JSON", "0.3"),
    ]
    assert (card.capabilities.streaming, card.capabilities.push_notifications) == (True, True)
    assert [(extension.uri, extension.required) for extension in card.capabilities.extensions] == [(EXTENSION, False)]
    assert list(card.default_input_modes) == list(spec.input_modes)
    assert list(card.default_output_modes) == list(spec.output_modes)
    assert [skill.id for skill in card.skills] == [skill.id for skill in spec.skills]
    assert all(skill.name and skill.description and skill.tags for skill in card.skills)


def test_the_default_agents_card_stands_at_the_root(shut_doors: Doors, settings: Any) -> None:
    for agent in ("echo", "imaging"):
        settings.A2A_DEFAULT_AGENT = agent
        assert shut_doors.send("GET", WELL_KNOWN).content == shut_doors.send("GET", path_of(agent)).content


def test_a_card_needs_no_key_and_names_the_scheme_when_one_is_needed(shut_doors: Doors, settings: Any) -> None:
    opened = parse_agent_card(shut_doors.send("GET", WELL_KNOWN).json())
    assert not opened.security_schemes
    assert not opened.security_requirements
    settings.A2A_OPEN_MODE = False
    closed = parse_agent_card(shut_doors.send("GET", WELL_KNOWN, peer="10.0.0.1").json())
    assert closed.security_schemes["apiKey"].http_auth_security_scheme.scheme == "Bearer"
    header = closed.security_schemes["apiKeyHeader"].api_key_security_scheme
    assert (header.location, header.name) == ("header", "X-API-Key")
    assert _needed(closed) == {"apiKey": ["tasks:read", "tasks:write"], "apiKeyHeader": ["tasks:read", "tasks:write"]}


@pytest.mark.parametrize("public", ["https://a2a.example.org", "https://a2a.example.org/", "https://example.org/base/"])
def test_the_public_address_goes_before_the_host(shut_doors: Doors, settings: Any, public: str) -> None:
    settings.A2A_PUBLIC_URL = public
    card = shut_doors.send("GET", path_of("echo"), headers={"host": "127.0.0.1:9"}).json()
    assert card["supportedInterfaces"][0]["url"] == f"{public.rstrip('/')}/a2a/echo/"


@pytest.mark.parametrize("host", ["[", "a b", "a/b?c#d", "x:99999", "\xe9", "", "<script>"])
def test_a_host_that_is_none_never_fails_the_card(shut_doors: Doors, host: str) -> None:
    reply = shut_doors.send("GET", path_of("echo"), headers={"host": host.encode("latin-1")})
    assert reply.status_code in (200, 400)


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{}', " {} "])
def test_a_client_that_has_the_card_gets_304(shut_doors: Doors, form: str) -> None:
    """A2A 1.0, section 8.6; RFC 9110, section 13.1.2: lists, and tags that a proxy weakened."""
    first = shut_doors.send("GET", WELL_KNOWN)
    again = shut_doors.send("GET", WELL_KNOWN, headers={"if-none-match": form.format(first.headers["etag"])})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("etag", "cache-control"):
        assert again.headers[name] == first.headers[name]
    assert first.headers["cache-control"] == "public, max-age=300"


def test_another_tag_gets_the_whole_card(shut_doors: Doors) -> None:
    for tag in ('"other"', "", "W/", "*x"):
        assert shut_doors.send("GET", WELL_KNOWN, headers={"if-none-match": tag}).status_code == 200


def test_cards_that_differ_have_tags_that_differ(shut_doors: Doors, settings: Any) -> None:
    tags = {shut_doors.send("GET", path_of(agent)).headers["etag"] for agent in ("echo", "sleep")}
    tags.add(shut_doors.send("GET", path_of("echo"), headers={"host": "127.0.0.1:9"}).headers["etag"])
    settings.A2A_OPEN_MODE = False
    tags.add(shut_doors.send("GET", path_of("echo")).headers["etag"])
    assert len(tags) == 4


@pytest.mark.parametrize("agent", ["nobody", "Echo", "echo%00", "..%2f..%2fetc"])
def test_an_agent_that_is_not_there_has_no_card(shut_doors: Doors, agent: str) -> None:
    reply = shut_doors.send("GET", path_of(agent))
    assert reply.status_code == 404


def test_a_card_is_only_read(shut_doors: Doors) -> None:
    assert shut_doors.send("HEAD", WELL_KNOWN).status_code == 200
    for method in ("PUT", "DELETE"):
        assert shut_doors.send(method, WELL_KNOWN).status_code in (404, 405)


# Caching (A2A 1.0, section 8.6; RFC 9110, section 13) -----------------------------------------------------------------


@pytest.mark.parametrize("form", ["*", '*, "other"'])
def test_any_card_is_enough_for_a_client_that_says_so(shut_doors: Doors, form: str) -> None:
    assert shut_doors.send("GET", WELL_KNOWN, headers={"if-none-match": form}).status_code == 304


def test_a_client_may_ask_by_time_and_a_tag_goes_before_it(shut_doors: Doors) -> None:
    first = shut_doors.send("GET", WELL_KNOWN)
    assert first.headers["last-modified"] == formatdate(STARTED_AT_S, usegmt=True)
    since = {"if-modified-since": first.headers["last-modified"]}
    assert shut_doors.send("GET", WELL_KNOWN, headers=since).status_code == 304
    assert shut_doors.send("GET", WELL_KNOWN, headers={**since, "if-none-match": '"other"'}).status_code == 200
    for before in (formatdate(STARTED_AT_S - 1, usegmt=True), "yesterday", "", "Thu, 99 Jan 1970 00:00:00 GMT"):
        assert shut_doors.send("GET", WELL_KNOWN, headers={"if-modified-since": before}).status_code == 200


def test_a_head_is_a_get_without_its_body(shut_doors: Doors) -> None:
    got, head = (shut_doors.send(method, WELL_KNOWN) for method in ("GET", "HEAD"))
    assert dict(got.headers) == dict(head.headers)


# Older clients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/.well-known/agent.json", "/a2a/echo/.well-known/agent.json"])
def test_clients_of_0_2_find_the_card_where_they_look(shut_doors: Doors, path: str) -> None:
    assert shut_doors.send("GET", path).content == shut_doors.send("GET", path_of("echo")).content


def test_a_client_of_0_3_reads_the_same_card(shut_doors: Doors, settings: Any) -> None:
    settings.A2A_OPEN_MODE = False
    settings.A2A_JWT_ISSUERS = json.dumps([ISSUER])
    body = shut_doors.send("GET", path_of("imaging"), headers={"host": "127.0.0.1:8123"}).json()
    card = v0_3.AgentCard.model_validate(body)
    assert (card.url, card.preferred_transport) == ("http://127.0.0.1:8123/a2a/imaging/", "JSONRPC")
    assert (card.protocol_version, card.capabilities.streaming) == ("0.3", True)
    others = [(interface.url, interface.transport) for interface in card.additional_interfaces or []]
    assert others == [("http://127.0.0.1:8123/a2a/imaging", "HTTP+JSON")]
    schemes = {name: scheme.root.type for name, scheme in (card.security_schemes or {}).items()}
    assert schemes == {"apiKey": "http", "apiKeyHeader": "apiKey", "token-login": "http"}
    assert [list(requirement) for requirement in card.security or []] == [["apiKey"], ["apiKeyHeader"], ["token-login"]]


# What is declared -----------------------------------------------------------------------------------------------------

ISSUER: dict[str, Any] = {
    "issuer": "https://login.example",
    "audience": "a2a",
    "alias": "login",
    "jwks_url": "https://login.example/jwks",
}
SPEC = AgentSpec(
    name="lab",
    handler=lambda ctx: None,
    lane=Lane.IO,
    description="A laboratory.",
    version="2.1.0",
    skills=(
        Skill(id="look", name="Look", description="Looks.", tags=("eyes",), output_modes=("image/png",)),
        Skill(id="cut", name="Cut", description="Cuts.", scopes=("lab:cut",), examples=("Cut it.",)),
    ),
    extended_description="A laboratory, with what it has for members.",
    extended_skills=(
        Skill(id="freeze", name="Freeze", description="Freezes."),
        Skill(id="burn", name="Burn", description="Burns.", scopes=("lab:burn",)),
    ),
    extensions=(
        Extension(uri="urn:lab:safety", description="Goggles.", required=True, params={"goggles": True, "n": 2}),
        Extension(uri="urn:lab:units"),
    ),
    documentation_url="https://lab.example/docs",
    icon_url="https://lab.example/icon.png",
)
SITE = Site(
    base_url="https://a2a.example",
    grpc_url="grpc.example:443",
    jwt_issuers=json.dumps([ISSUER]),
    provider_name="Lab Ltd",
    provider_url="https://lab.example",
)


def _needed(card: AgentCard) -> dict[str, list[str]]:
    """The ways in, each with its scopes."""
    return {
        name: list(held.list)
        for requirement in card.security_requirements
        for name, held in requirement.schemes.items()
    }


def test_a_card_shows_all_that_is_declared_and_lacks_nothing_that_is_required() -> None:
    card = agent_card.public(SPEC, SITE)
    validate_proto_required_fields(card)
    assert parse_agent_card(json.loads(agent_card.as_json(card))) == card
    assert (card.provider.organization, card.provider.url) == ("Lab Ltd", "https://lab.example")
    assert (card.documentation_url, card.icon_url) == ("https://lab.example/docs", "https://lab.example/icon.png")
    grpc = [i for i in card.supported_interfaces if i.protocol_binding == "GRPC"]
    assert [(i.url, i.tenant, i.protocol_version) for i in grpc] == [("grpc.example:443", "lab", "1.0")]
    assert [i.protocol_binding for i in card.supported_interfaces][:3] == ["JSONRPC", "HTTP+JSON", "GRPC"]
    look, cut = card.skills
    assert (list(look.tags), list(look.output_modes), list(look.security_requirements)) == (["eyes"], ["image/png"], [])
    assert (list(cut.tags), list(cut.examples)) == (["cut"], ["Cut it."])
    assert {name: list(held.list) for each in cut.security_requirements for name, held in each.schemes.items()} == {
        name: ["tasks:write", "lab:cut"] for name in ("apiKey", "apiKeyHeader", "token-login")
    }
    known = {each.uri: (each.required, dict(each.params)) for each in card.capabilities.extensions}
    assert known == {
        EXTENSION: (False, {}),
        "urn:lab:safety": (True, {"goggles": True, "n": 2.0}),
        "urn:lab:units": (False, {}),
    }


def test_tokens_are_shown_as_a_jwt_or_by_the_providers_discovery_document() -> None:
    token = agent_card.public(SPEC, SITE).security_schemes["token-login"].http_auth_security_scheme
    assert (token.scheme, token.bearer_format) == ("Bearer", "JWT")
    document = "https://login.example/.well-known/openid-configuration"
    issuers = json.dumps([{**ISSUER, "openid_configuration": document}])
    card = agent_card.public(SPEC, Site(base_url="https://a2a.example", jwt_issuers=issuers))
    oidc = card.security_schemes["token-login"].open_id_connect_security_scheme
    assert oidc.open_id_connect_url == document
    assert set(_needed(card)) == {"apiKey", "apiKeyHeader", "token-login"}


# The extended card (A2A 1.0, sections 3.1.11 and 13.3) ----------------------------------------------------------------


def shown(*held: str) -> list[str]:
    """The skills in the extended card of a credential with these scopes."""
    caller = Caller(1, "a", scopes=frozenset(held))
    return [skill.id for skill in agent_card.extended(SPEC, caller, SITE).skills]


def test_the_extended_card_has_the_skills_that_the_caller_may_ask_for() -> None:
    assert agent_card.public(SPEC, SITE).capabilities.extended_agent_card
    assert [skill.id for skill in agent_card.public(SPEC, SITE).skills] == ["look", "cut"]
    assert shown("tasks:read") == ["look", "cut", "freeze"]
    assert shown("tasks:read", "lab:burn") == ["look", "cut", "freeze", "burn"]
    card = agent_card.extended(SPEC, Caller(1, "a"), SITE)
    assert len(card.skills) == 4
    assert card.description == "A laboratory, with what it has for members."
    validate_proto_required_fields(card)


def test_an_agent_without_an_extended_card_says_that_it_has_none() -> None:
    echo = agents.get("echo")
    assert not agent_card.public(echo, SITE).capabilities.HasField("extended_agent_card")
    with pytest.raises(UnsupportedOperationError):
        agent_card.extended(echo, Caller(1, "a"), SITE)


# Extensions (A2A 1.0, sections 3.2.6 and 4.6) -------------------------------------------------------------------------


def test_a_request_activates_what_it_names_and_the_agent_knows() -> None:
    assert extensions.activated(SPEC, []) == []
    asked = ["urn:other, urn:lab:units", f" {EXTENSION} ,,"]
    assert extensions.activated(SPEC, asked) == [EXTENSION, "urn:lab:units"]
    assert extensions.echoed([]) == {}
    text = f"{EXTENSION}, urn:lab:units"
    assert extensions.echoed([EXTENSION, "urn:lab:units"]) == {"A2A-Extensions": text, "X-A2A-Extensions": text}


def test_a_required_extension_must_be_named() -> None:
    with pytest.raises(ExtensionSupportRequiredError, match="must name urn:lab:safety"):
        extensions.check_required(SPEC, ["urn:lab:units"])
    extensions.check_required(SPEC, ["urn:x,urn:lab:safety"])
    extensions.check_required(agents.get("echo"), [])
