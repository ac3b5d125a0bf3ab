"""The A2A addresses: one per agent, and the default agent's at the root (A2A 1.0, section 8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from django.conf import settings
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tasks_app import agents
from tasks_app.a2a import agent_card, card_signing, http, jsonrpc, rest
from tasks_app.a2a.errors import MethodNotFoundError
from tasks_app.a2a.v0_3 import rest as v0_3
from tasks_app.engine.core import Statement, Steps
from tasks_app.web import web


async def call(request: Request) -> Response:
    """POST to an agent's address, or to the root: the JSON-RPC binding."""
    name = request.path_params.get("agent")
    try:
        if name is not None:
            agents.get(name)
    except agents.UnknownAgent as error:
        return _unknown(error)
    return await jsonrpc.endpoint(request, name)


class Direct:
    """An endpoint as an ASGI application: what Starlette puts around a function costs a tenth of a submit."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)


async def nothing(request: Request) -> Response:
    """What is below an agent's address and no operation."""
    unknown = MethodNotFoundError(f"no operation {request.method} {request.url.path[:200]}")
    return rest.VERSION.refuse(request, unknown, status=404)


async def card(request: Request) -> Response:
    """The agent's card, with an ETag; 304 if the client has it (A2A 1.0, section 8.6)."""
    site = agent_card.Site.at(http.base_url(request))
    try:
        body, etag = agent_card.rendered(_agent_name(request), site)
    except agents.UnknownAgent as error:
        return _unknown(error)
    return http.cached(request, body, etag=etag, max_age_s=agent_card.MAX_AGE_S)


async def jwks(request: Request) -> Response:
    """The public key of the cards' signatures (A2A 1.0, section 8.4.2); 404 if they are not signed."""
    signer = card_signing.signer(settings.A2A_CARD_SIGNING_KEY, settings.A2A_CARD_SIGNING_KID)
    if signer is None:
        return http.refused(404, "agent cards are not signed here")
    body = orjson.dumps(signer.jwks())
    return http.cached(request, body, etag=http.tag(body), max_age_s=agent_card.MAX_AGE_S)


async def home(request: Request) -> Response:
    """A person at the root is sent to the admin."""
    return RedirectResponse("/admin/")


async def health(request: Request) -> Response:
    """200 when this process answers and reaches the database; 503 otherwise."""
    try:
        await web().read(_ping)
    except Exception as error:
        return JSONResponse({"status": "unavailable", "database": type(error).__name__}, status_code=503)
    return JSONResponse({"status": "ok"})


def _agent_name(request: Request) -> str:
    return str(request.path_params.get("agent", settings.A2A_DEFAULT_AGENT))


def _unknown(error: Exception) -> Response:
    detail = str(error)
    return http.refused(404, detail, {"field": "agent", "message": detail})


def _ping() -> Steps[None]:
    yield Statement("SELECT 1", {})


#: Of A2A 0.3 and 1.0, and of 0.2.
CARDS = (".well-known/agent-card.json", ".well-known/agent.json")
#: Of 0.1, which python-a2a's client posts to an address of their own each, below the agent's.
METHODS = ("tasks/send", "tasks/get", "tasks/cancel")
#: The most used first: they are tried one after the other.
ROUTES = [
    Route("/a2a/{agent}/", Direct(call), methods=["POST"]),
    Route("/", Direct(call), methods=["POST"]),
    Route("/", home, methods=["GET"]),
    Route("/a2a/{agent}", call, methods=["POST"]),
    Route(f"/{card_signing.JWKS_PATH}", jwks),
    *[Route(f"/{path}", card) for path in CARDS],
    *[Route(f"/a2a/{{agent}}/{path}", card) for path in CARDS],
    *[Route(f"{prefix}{method}", call, methods=["POST"]) for prefix in ("/", "/a2a/{agent}/") for method in METHODS],
    *v0_3.routes(),
    *rest.routes(),
    Route("/a2a/{agent}/{path:path}", nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
]
