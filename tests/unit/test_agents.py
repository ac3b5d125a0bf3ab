"""The registry of agents: names, schemas, media types."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from tasks_app import agents
from tasks_app.agents import AgentSpec, BadParameters, Extension, Skill, UnknownAgent, agent
from tasks_app.status import Lane

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "window": {"type": "object", "properties": {"width": {"type": "number"}}},
        "names": {"type": "array"},
    },
    "required": ["window"],
}


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_registry", dict(agents.registered()))


def handler(ctx: Any) -> None:
    """Does nothing."""


def spec(**fields: Any) -> AgentSpec:
    return AgentSpec(**{"name": "a", "handler": handler, "lane": Lane.IO, "description": "A.", **fields})


def skill(name: str, **fields: Any) -> Skill:
    return Skill(**{"id": name, "name": name, "description": f"{name}.", **fields})


def test_the_decorator_registers_and_leaves_the_function_as_it_is() -> None:
    made = agent("mine", lane="cpu", description="Mine.", timeout_s=5.0)(handler)
    assert made is handler
    found = agents.get("mine")
    assert (found.handler, found.lane, found.timeout_s, found.max_attempts) == (handler, Lane.CPU, 5.0, 3)
    assert agents.registered()["mine"] is found


def test_an_unknown_agent_is_told_the_names_there_are() -> None:
    with pytest.raises(UnknownAgent, match=r"no agent 'nobody'; there are: .*echo.*sleep"):
        agents.get("nobody")


def test_the_registry_that_is_handed_out_is_a_copy() -> None:
    agents.registered().clear()
    assert agents.get("echo")


def test_a_name_belongs_to_one_function() -> None:
    agent("mine", lane="io", description="Mine.")(handler)
    agent("mine", lane="io", description="Mine again: its module was imported twice.")(handler)

    def other(ctx: Any) -> None: ...

    with pytest.raises(ValueError, match="two agents are named 'mine'"):
        agent("mine", lane="io", description="Theirs.")(other)
    assert agents.get("mine").handler is handler


def test_functions_of_the_same_name_in_two_modules_are_two() -> None:
    def handler_elsewhere(ctx: Any) -> None: ...

    handler_elsewhere.__qualname__ = handler.__qualname__
    handler_elsewhere.__module__ = "somebody.elses"
    agent("mine", lane="io", description="Mine.")(handler)
    with pytest.raises(ValueError, match="two agents are named 'mine'"):
        agent("mine", lane="io", description="Theirs.")(handler_elsewhere)


def test_an_agent_replies_with_a_task_or_a_message() -> None:
    assert (spec().replies, spec(replies="message").replies) == ("task", "message")
    with pytest.raises(ValueError, match="replies"):
        spec(replies="letter")


def test_a_lane_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="gpu"):
        agent("mine", lane="gpu", description="Mine.")(handler)


def test_a_schema_that_is_none_is_refused_when_it_is_declared() -> None:
    with pytest.raises(jsonschema.SchemaError):
        spec(parameters_schema={"type": "objekt"})


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({}, "parameters"),
        ({"window": 5}, "parameters.window"),
        ({"window": {"width": "5"}}, "parameters.window.width"),
        ({"window": {}, "names": {}}, "parameters.names"),
    ],
)
def test_the_first_parameter_that_does_not_fit_is_named(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(BadParameters) as refused:
        spec(parameters_schema=SCHEMA).check_parameters(parameters)
    assert refused.value.field == field


def test_parameters_that_fit_pass_and_without_a_schema_all_do() -> None:
    spec(parameters_schema=SCHEMA).check_parameters({"window": {"width": 400}, "more": 1})
    spec().check_parameters({"anything": [1, None]})


@pytest.mark.parametrize(
    ("modes", "media_type", "accepted"),
    [
        (("*/*",), "image/png", True),
        (("text/*",), "", True),
        (("text/*",), "text/plain", True),
        (("text/*",), "TEXT/Plain; charset=utf-8", True),
        (("text/*",), "application/json", False),
        (("text/*",), "textual/plain", False),
        (("image/png",), "image/png", True),
        (("image/png",), "image/pngx", False),
        (("image/png",), "image/*", False),
        (("image/png", "text/*"), "text/html", True),
    ],
)
def test_a_part_is_taken_by_its_media_type(modes: tuple[str, ...], media_type: str, accepted: bool) -> None:
    assert spec(input_modes=modes).accepts(media_type) is accepted


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"description": " "}, "description may not be empty"),
        ({"version": ""}, "version may not be empty"),
        ({"input_modes": ()}, "may not be empty"),
        ({"output_modes": ("text",)}, "'text' is no media type"),
        ({"input_modes": ("text/plain; charset=utf-8",)}, "is no media type"),
        ({"skills": (skill("a"), skill("a"))}, "two skills have the same id"),
        ({"skills": (skill("a"),), "extended_skills": (skill("a"),)}, "two skills have the same id"),
        ({"skills": (skill(""),)}, "a skill needs an id"),
        ({"skills": (skill("a", input_modes=("image",)),)}, "'image' is no media type"),
        ({"skills": (skill("a", scopes=("a b",)),)}, "'a b' is no scope"),
        ({"extensions": (Extension(uri="urn:a"), Extension(uri="urn:a"))}, "a URI of its own"),
        ({"extensions": (Extension(uri="urn:a,urn:b"),)}, "a URI of its own"),
    ],
)
def test_what_no_card_could_show_is_refused_when_it_is_declared(fields: dict[str, Any], why: str) -> None:
    """A2A 1.0, section 4.4."""
    with pytest.raises(ValueError, match=re.escape(why)):
        spec(**fields)
