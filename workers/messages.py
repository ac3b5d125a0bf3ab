"""What may stand in a queue: judges a message before it costs a slot. The publisher's side is ``Publisher._send``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from tasks_app.dispatch.queues import JOB_NAMES, job_id

#: What the column of a task's epoch can hold.
EPOCH_MAX = 2**31 - 1
_LANES_JOBS = frozenset(JOB_NAMES.values())
#: A hint is valid until it is claimed, and run at once: what says otherwise is none of ours.
_FOREIGN_HEADERS = ("eta", "expires", "timelimit")


def problem(message: Any, jobs: Collection[str]) -> str:
    """Why a worker that runs these jobs (none: the system's worker) cannot run the message; empty if it can."""
    try:
        body = message.payload
    except Exception as error:
        return f"its body cannot be read: {type(error).__name__}: {error}"
    headers, args, kwargs = _parts(message, body)
    name = headers.get("task")
    if not isinstance(name, str):
        return "it is no job of Celery's"
    if not jobs:
        return f"{name} is not run by the system's worker" if name in _LANES_JOBS else ""
    if name not in jobs:
        return f"{name} is not run by this queue's workers"
    return _problem_of_hint(headers, args, kwargs)


def _parts(message: Any, body: Any) -> tuple[dict[str, Any], Any, Any]:
    """Headers, args and kwargs, in both versions of Celery's protocol; the older has all of them in its body."""
    if message.headers and "task" in message.headers:
        well_formed = isinstance(body, list) and len(body) == 3
        return message.headers, body[0] if well_formed else None, body[1] if well_formed else None
    if isinstance(body, dict):
        return body, body.get("args"), body.get("kwargs")
    return {}, None, None


def _problem_of_hint(headers: dict[str, Any], args: Any, kwargs: Any) -> str:
    if not isinstance(args, list | tuple) or len(args) != 2 or kwargs:
        return f"its arguments are not a task's id and an epoch: {args!r} {kwargs!r}"
    task_id, epoch = args
    if type(epoch) is not int or not 0 <= epoch <= EPOCH_MAX:
        return f"its epoch is no number that an epoch can be: {epoch!r}"
    try:
        expected = job_id(UUID(task_id), epoch)
    except (ValueError, TypeError, AttributeError):
        return f"its task's id is no UUID: {task_id!r}"
    if headers.get("id") != expected:
        return f"its job's id does not name its task: {headers.get('id')!r}"
    if any(_says_something(headers.get(name)) for name in _FOREIGN_HEADERS):
        return "it has a time or a limit of its own"
    return ""


def _says_something(value: Any) -> bool:
    return any(value) if isinstance(value, list | tuple) else value is not None
