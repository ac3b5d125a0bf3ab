"""The operation that an HTTP request calls, whatever the binding."""

from __future__ import annotations

from starlette.requests import Request

from tasks_app.a2a import extensions, http
from tasks_app.agents import AgentSpec
from tasks_app.authentication import Caller
from tasks_app.operations import Call


def made_by(request: Request, caller: Caller, spec: AgentSpec, method: str) -> Call:
    """The call of an operation that a request makes. Raises A2A's errors, or Forbidden."""
    return Call.made(
        caller=caller,
        spec=spec,
        method=method,
        asked=[value for name in extensions.HEADERS for value in request.headers.getlist(name)],
        after=http.last_event_id(request),
        base_url=http.base_url(request),
    )
