"""What a failed call to a remote agent means for the task: to be tried again, or its end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from a2a.client.errors import A2AClientError, A2AClientTimeoutError, AgentCardResolutionError
from a2a.utils.errors import A2AError, InternalError, TaskNotFoundError

from tasks_app.agents import SNOOZE_MAX_S, AgentError

log = logging.getLogger(__name__)

#: gRPC's codes for what may be over soon; of the others these two ask for other credentials.
_PASSING = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "ABORTED")
_UNAUTHORIZED = ("UNAUTHENTICATED", "PERMISSION_DENIED")


@contextmanager
def told(agent: str) -> Iterator[None]:
    """Raises what the SDK's client raises as an AgentError: ``remote_unavailable`` is tried again.

    A client reads no address of ours in it: that stands in the log.
    """
    try:
        yield
    except A2AError as error:
        log.warning("%s: %s: %s", agent, type(error).__name__, error)
        raise judged(error) from error


def is_passing(error: A2AError) -> bool:
    """Whether the remote may answer if it is asked again."""
    return judged(error).retryable


def judged(error: A2AError) -> AgentError:
    """The error of the task."""
    cause = error.__cause__
    if isinstance(error, AgentCardResolutionError) and error.status_code:
        return _of_status(error.status_code, cause)
    if isinstance(cause, httpx.HTTPStatusError):
        return _of_status(cause.response.status_code, cause)
    if isinstance(error, A2AClientTimeoutError):
        return _unavailable("did not answer in time")
    if isinstance(cause, httpx.RequestError):
        return _unavailable("cannot be reached")
    if code := _grpc_code(cause):
        if code in _UNAUTHORIZED:
            return _unauthorized()
        if code in _PASSING:
            return _unavailable(f"answered {code}")
    if isinstance(error, TaskNotFoundError):
        return AgentError("the remote agent does not know the task any more", code="remote_task_lost")
    if isinstance(error, InternalError):
        return _unavailable("reports an internal error")
    if isinstance(error, A2AClientError):
        return AgentError("the remote agent's answer cannot be understood", code="remote_refused")
    return AgentError(f"the remote agent refuses: {error}", code="remote_refused")


def _of_status(status: int, cause: Any) -> AgentError:
    if status in (401, 403):
        return _unauthorized()
    if status == 429 or status >= 500:
        return _unavailable(f"answered with the HTTP status {status}", delay_s=_retry_after_s(cause))
    return AgentError(f"the remote agent answered with the HTTP status {status}", code="remote_refused")


def _unavailable(what: str, *, delay_s: float | None = None) -> AgentError:
    return AgentError(f"the remote agent {what}", code="remote_unavailable", retryable=True, delay_s=delay_s)


def _unauthorized() -> AgentError:
    return AgentError("the remote agent does not accept this server's credentials", code="remote_unauthorized")


def _retry_after_s(cause: Any) -> float | None:
    """Of a Retry-After in seconds; its other form, a date, is rare and left to the backoff."""
    text = cause.response.headers.get("Retry-After", "") if isinstance(cause, httpx.HTTPStatusError) else ""
    return min(float(text), SNOOZE_MAX_S) if text.isdecimal() else None


def _grpc_code(cause: Any) -> str:
    """Without importing gRPC, which few remotes need."""
    code = getattr(cause, "code", None)
    return str(getattr(code(), "name", "")) if callable(code) else ""
