"""The A2A addresses: one per agent, and the default agent's at the root (A2A 1.0, section 8)."""

from __future__ import annotations

from django.conf import settings
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tasks_app import agents
from tasks_app.a2a import agent_card, http, jsonrpc, rest
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


async def nothing(request: Request) -> Response:
    """What is below an agent's address and no operation."""
    return http.refused(404, f"no operation {request.method} {request.url.path[:200]}")


async def card(request: Request) -> Response:
    """The agent's card, with an ETag; 304 if the client has it (A2A 1.0, section 8.6)."""
    try:
        body, etag = agent_card.rendered(
            _agent_name(request), base_url=http.base_url(request), open_mode=settings.A2A_OPEN_MODE
        )
    except agents.UnknownAgent as error:
        return _unknown(error)
    headers = {"ETag": etag, "Cache-Control": f"public, max-age={agent_card.MAX_AGE_S}"}
    if etag in _etags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


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


def _etags(header: str) -> set[str]:
    """The tags of an If-None-Match; a proxy that compresses weakens ours (RFC 9110, section 13.1.2)."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _unknown(error: Exception) -> Response:
    detail = str(error)
    return http.refused(404, detail, {"field": "agent", "message": detail})


def _ping() -> Steps[None]:
    yield Statement("SELECT 1", {})


CARD = ".well-known/agent-card.json"
#: The most used first: they are tried one after the other.
ROUTES = [
    Route("/a2a/{agent}/", call, methods=["POST"]),
    Route("/", call, methods=["POST"]),
    Route("/", home, methods=["GET"]),
    Route(f"/{CARD}", card),
    Route("/a2a/{agent}", call, methods=["POST"]),
    Route(f"/a2a/{{agent}}/{CARD}", card),
    *v0_3.routes(),
    *rest.routes(),
    Route("/a2a/{agent}/{path:path}", nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
]
