"""Agent cards (A2A 1.0, sections 4.4 and 8)."""

from __future__ import annotations

from typing import Any

import pytest
from a2a.client.card_resolver import parse_agent_card

from tasks_app import agents
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
    assert [(i.url, i.protocol_binding, i.protocol_version) for i in card.supported_interfaces] == [
        (f"http://127.0.0.1:8123/a2a/{agent}/", "JSONRPC", "1.0")
    ]
    assert (card.capabilities.streaming, card.capabilities.push_notifications) == (True, False)
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
    assert closed.security_schemes["api_key"].http_auth_security_scheme.scheme == "Bearer"
    assert [list(requirement.schemes) for requirement in closed.security_requirements] == [["api_key"]]


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
