"""Agent cards, built from the agents' declarations (A2A 1.0, sections 4.4 and 8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentProvider,
    AgentSkill,
    APIKeySecurityScheme,
    HTTPAuthSecurityScheme,
    OpenIdConnectSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)
from a2a.utils.constants import PROTOCOL_VERSION_0_3, PROTOCOL_VERSION_1_0, TransportProtocol
from a2a.utils.proto_utils import validate_proto_required_fields
from django.conf import settings

from tasks_app import agents, scopes, tokens
from tasks_app.a2a import card_signing, extensions, http
from tasks_app.a2a.errors import InvalidParamsError, UnsupportedOperationError, violations
from tasks_app.agents import AgentSpec, Skill
from tasks_app.authentication import Caller

MAX_AGE_S = 300
JSONRPC, REST = TransportProtocol.JSONRPC.value, TransportProtocol.HTTP_JSON.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a card says of the server. ``base_url`` is where clients reach it, without a slash at its end."""

    base_url: str
    grpc_url: str = ""
    open_mode: bool = False
    jwt_issuers: str = ""
    provider_name: str = ""
    provider_url: str = ""
    signing_key: str = ""
    signing_kid: str = ""

    @classmethod
    def at(cls, base_url: str) -> Site:
        """As the settings say."""
        return cls(
            base_url=base_url,
            grpc_url=settings.A2A_GRPC_PUBLIC_URL,
            open_mode=settings.A2A_OPEN_MODE,
            jwt_issuers=settings.A2A_JWT_ISSUERS,
            provider_name=settings.A2A_PROVIDER_NAME,
            provider_url=settings.A2A_PROVIDER_URL,
            signing_key=settings.A2A_CARD_SIGNING_KEY,
            signing_kid=settings.A2A_CARD_SIGNING_KID,
        )


def public(spec: AgentSpec, site: Site) -> AgentCard:
    """The card that everybody may read, signed if there is a key."""
    return _signed(_card(spec, site, description=spec.description, skills=spec.public_skills), site)


def extended(spec: AgentSpec, caller: Caller, site: Site) -> AgentCard:
    """The card of an authenticated caller: with the extended skills for which its credential holds the scopes.

    Raises UnsupportedOperationError if the agent declares none (A2A 1.0, section 3.1.11).
    """
    if not has_extended(spec):
        raise UnsupportedOperationError(f"agent '{spec.name}' has no extended card")
    held = caller.scopes
    more = [skill for skill in spec.extended_skills if held is None or held.issuperset(skill.scopes)]
    description = spec.extended_description or spec.description
    return _signed(_card(spec, site, description=description, skills=(*spec.public_skills, *more)), site)


def has_extended(spec: AgentSpec) -> bool:
    return bool(spec.extended_description or spec.extended_skills)


@lru_cache(maxsize=256)
def rendered(name: str, site: Site) -> tuple[bytes, str]:
    """The public card as JSON, and its ETag. Raises :class:`tasks_app.agents.UnknownAgent`."""
    card = public(agents.get(name), site)
    return as_json(card), etag(card)


def as_json(card: AgentCard) -> bytes:
    """The card with the fields of A2A 0.3 beside those of 1.0, for clients of both."""
    return orjson.dumps(agent_card_to_dict(card), option=orjson.OPT_SORT_KEYS)


def missing(card: AgentCard) -> list[str]:
    """The fields that A2A requires and the card has not; a client may refuse it."""
    try:
        validate_proto_required_fields(card)
    except InvalidParamsError as error:
        return [wrong["field"] for wrong in violations(error)]
    return []


def etag(card: AgentCard) -> str:
    """The same from every process: of the card without its signatures, which differ. Then the tag is a weak one."""
    bare = AgentCard()
    bare.CopyFrom(card)
    bare.ClearField("signatures")
    protected = "".join(signature.protected for signature in card.signatures)
    made = http.tag(as_json(bare) + protected.encode())
    return f"W/{made}" if card.signatures else made


def _card(spec: AgentSpec, site: Site, *, description: str, skills: Iterable[Skill]) -> AgentCard:
    schemes = {} if site.open_mode else _schemes(site)
    made = AgentCard(
        name=spec.name,
        description=description,
        version=spec.version,
        supported_interfaces=_interfaces(spec, site),
        capabilities=AgentCapabilities(
            streaming=True,
            push_notifications=True,
            extensions=[_extension(each) for each in extensions.declared(spec)],
            extended_agent_card=has_extended(spec) or None,
        ),
        security_schemes=schemes,
        security_requirements=_requirements(schemes, (scopes.READ, scopes.WRITE)),
        default_input_modes=spec.input_modes,
        default_output_modes=spec.output_modes,
        skills=[_skill(skill, schemes) for skill in skills],
        documentation_url=spec.documentation_url or None,
        icon_url=spec.icon_url or None,
    )
    if site.provider_name:
        made.provider.CopyFrom(AgentProvider(organization=site.provider_name, url=site.provider_url))
    return made


def _interfaces(spec: AgentSpec, site: Site) -> list[AgentInterface]:
    """Most preferred first. gRPC has one address for all agents, so that the tenant names the agent."""
    place = f"{site.base_url}/a2a/{spec.name}"
    one, legacy = PROTOCOL_VERSION_1_0, PROTOCOL_VERSION_0_3
    made = [
        AgentInterface(url=f"{place}/", protocol_binding=JSONRPC, protocol_version=one),
        AgentInterface(url=place, protocol_binding=REST, protocol_version=one),
    ]
    if site.grpc_url:
        grpc = TransportProtocol.GRPC.value
        made.append(AgentInterface(url=site.grpc_url, protocol_binding=grpc, protocol_version=one, tenant=spec.name))
    return [
        *made,
        AgentInterface(url=f"{place}/", protocol_binding=JSONRPC, protocol_version=legacy),
        AgentInterface(url=place, protocol_binding=REST, protocol_version=legacy),
    ]


def _schemes(site: Site) -> dict[str, SecurityScheme]:
    """The ways to authenticate, each by itself enough."""
    key = HTTPAuthSecurityScheme(scheme="Bearer", description="An API key: a2a_…")
    header = APIKeySecurityScheme(location="header", name="X-API-Key", description="An API key: a2a_…")
    made = {
        "apiKey": SecurityScheme(http_auth_security_scheme=key),
        "apiKeyHeader": SecurityScheme(api_key_security_scheme=header),
    }
    for issuer in tokens.issuers(site.jwt_issuers).values():
        said = f"A token of {issuer.issuer} for the audience {issuer.audience}"
        if issuer.openid_configuration:
            oidc = OpenIdConnectSecurityScheme(open_id_connect_url=issuer.openid_configuration, description=said)
            made[f"token-{issuer.alias}"] = SecurityScheme(open_id_connect_security_scheme=oidc)
        else:
            token = HTTPAuthSecurityScheme(scheme="Bearer", bearer_format="JWT", description=said)
            made[f"token-{issuer.alias}"] = SecurityScheme(http_auth_security_scheme=token)
    return made


def _requirements(schemes: Iterable[str], needed: Iterable[str]) -> list[SecurityRequirement]:
    """One of these is enough. The scopes are never none: the SDK's canonical JSON would leave the requirement out, and
    a signature would not cover it."""
    held = StringList(list=needed)
    return [SecurityRequirement(schemes={name: held}) for name in schemes]


def _skill(skill: Skill, schemes: Iterable[str]) -> AgentSkill:
    return AgentSkill(
        id=skill.id,
        name=skill.name,
        description=skill.description,
        # Required, and at least one.
        tags=skill.tags or (skill.id,),
        examples=skill.examples,
        input_modes=skill.input_modes,
        output_modes=skill.output_modes,
        security_requirements=_requirements(schemes, (scopes.WRITE, *skill.scopes)) if skill.scopes else (),
    )


def _extension(declared: agents.Extension) -> AgentExtension:
    made = AgentExtension(uri=declared.uri, description=declared.description, required=declared.required)
    if declared.params:
        params: Any = made.params
        params.update(declared.params)
    return made


def _signed(card: AgentCard, site: Site) -> AgentCard:
    signer = card_signing.signer(site.signing_key, site.signing_kid)
    if signer is not None:
        signer.sign(card, base_url=site.base_url)
    return card
