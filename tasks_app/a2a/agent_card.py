"""Agent cards, built from the agents' declarations (A2A 1.0, sections 4.4 and 8)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import orjson
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)

from tasks_app import agents
from tasks_app.a2a import extension

MAX_AGE_S = 300


def card(spec: agents.AgentSpec, *, base_url: str, open_mode: bool) -> AgentCard:
    """The agent's card; ``base_url`` is where clients reach the server, without a slash at its end."""
    made = AgentCard(
        name=spec.name,
        description=spec.description,
        version=spec.version,
        supported_interfaces=[
            AgentInterface(url=f"{base_url}/a2a/{spec.name}/", protocol_binding="JSONRPC", protocol_version="1.0")
        ],
        capabilities=AgentCapabilities(
            streaming=True,
            push_notifications=False,
            extensions=[AgentExtension(uri=extension.URI, description=extension.DESCRIPTION, required=False)],
        ),
        default_input_modes=list(spec.input_modes),
        default_output_modes=list(spec.output_modes),
        skills=[_skill(skill) for skill in spec.skills] or [_only_skill(spec)],
    )
    if not open_mode:
        made.security_schemes["api_key"].CopyFrom(
            SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="Bearer"))
        )
        made.security_requirements.append(SecurityRequirement(schemes={"api_key": StringList()}))
    return made


@lru_cache(maxsize=256)
def rendered(name: str, *, base_url: str, open_mode: bool) -> tuple[bytes, str]:
    """The card as JSON, and its ETag. Raises :class:`tasks_app.agents.UnknownAgent`."""
    data: dict[str, Any] = agent_card_to_dict(card(agents.get(name), base_url=base_url, open_mode=open_mode))
    body = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _skill(skill: agents.Skill) -> AgentSkill:
    return AgentSkill(
        id=skill.id,
        name=skill.name,
        description=skill.description,
        tags=list(skill.tags),
        examples=list(skill.examples),
    )


def _only_skill(spec: agents.AgentSpec) -> AgentSkill:
    return AgentSkill(id=spec.name, name=spec.name, description=spec.description, tags=[spec.lane.value])
