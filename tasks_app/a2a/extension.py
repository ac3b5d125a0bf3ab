"""Our one extension of A2A: what the protocol has no field for travels in the message's metadata under this URI.

The same names are plain fields over REST.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from a2a.types import Message
from django.utils.dateparse import parse_datetime

from tasks_app.a2a.errors import invalid
from tasks_app.a2a.parse import json_object, uuid, whole
from tasks_app.status import Priority

URI = "urn:a2a-task-manager:task-options:v1"
DESCRIPTION = (
    "Skill, priority, timeout, start deadline, earliest start, parameters and resources of a task; tasks that it needs."
)
FIELDS = (
    *("skill", "priority", "timeout_s", "start_deadline_s", "run_after", "depends_on", "parameters", "resources"),
)
#: As many tasks one may need.
DEPENDS_MAX = 100
#: The longest timeout or start deadline that may be asked for, in seconds: 30 days.
TIMEOUT_MAX_S = 30 * 86_400.0
#: Of an earliest start: what stays an instant in PostgreSQL and in Python, whatever is added or taken away.
RUN_AFTER_YEARS = (1970, 2999)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How a task is to be run; None means the agent's default.

    ``skill`` is the id of the skill that is asked for; empty: whichever the agent takes. ``depends_on`` are tasks that
    must have completed before it runs.
    """

    skill: str = ""
    priority: Priority = Priority.NORMAL
    timeout_s: float | None = None
    start_deadline_s: float | None = None
    run_after: datetime | None = None
    depends_on: tuple[UUID, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> dict[str, Any]:
        """What was said of that for which the agent has a default."""
        said = {"timeout_s": self.timeout_s, "start_deadline_s": self.start_deadline_s}
        # Left out where it was not said: what was asked before there were skills is still the same request.
        return {**said, "resources": self.resources, **({"skill": self.skill} if self.skill else {})}


def parse(data: Any, *, path: str) -> TaskOptions:
    """The options in a JSON object; ``path`` is where it stands, for errors.

    Raises InvalidParamsError naming the field that is unknown, of the wrong type or out of range.
    """
    if not isinstance(data, Mapping):
        raise invalid(path, "must be an object")
    unknown = sorted(set(data) - set(FIELDS))
    if unknown:
        raise invalid(_join(path, unknown[0]), f"unknown; there are: {', '.join(FIELDS)}")
    return TaskOptions(
        skill=_skill(data.get("skill"), _join(path, "skill")),
        priority=_priority(data.get("priority"), _join(path, "priority")),
        timeout_s=_seconds(data.get("timeout_s"), _join(path, "timeout_s")),
        start_deadline_s=_seconds(data.get("start_deadline_s"), _join(path, "start_deadline_s")),
        run_after=instant(data.get("run_after"), _join(path, "run_after")),
        depends_on=_depends_on(data.get("depends_on"), _join(path, "depends_on")),
        parameters=whole(json_object(data.get("parameters"), path=_join(path, "parameters"))),
        resources=whole(json_object(data.get("resources"), path=_join(path, "resources"))),
    )


def skill_of(message: Message) -> str:
    """The id of the skill that a message asks for; empty if it names none."""
    said = message.metadata.fields
    options = said[URI].struct_value.fields if URI in said else {}
    return options["skill"].string_value if "skill" in options else ""


def put_skill(message: Message, skill: str) -> None:
    """Has the message ask for this skill and no other: what a handler reads is what was checked, from every door."""
    if skill_of(message) == skill:
        return
    options = message.metadata.fields[URI].struct_value.fields
    if skill:
        options["skill"].string_value = skill
    else:
        del options["skill"]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _skill(value: Any, path: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not value:
        raise invalid(path, "must be the id of one of the agent's skills")
    return value


def _priority(value: Any, path: str) -> Priority:
    if value is None:
        return Priority.NORMAL
    if not isinstance(value, str):
        raise invalid(path, f"must be one of {', '.join(Priority.labels)}")
    try:
        return Priority.parse(value)
    except ValueError as error:
        raise invalid(path, str(error)) from error


def _seconds(value: Any, path: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid(path, "must be a number of seconds")
    if not 0 < value <= TIMEOUT_MAX_S:
        raise invalid(path, f"must be more than 0 and at most {TIMEOUT_MAX_S:g} seconds")
    return float(value)


def _depends_on(value: Any, path: str) -> tuple[UUID, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > DEPENDS_MAX:
        raise invalid(path, f"must be a list of at most {DEPENDS_MAX} ids of tasks")
    found = [uuid(text) if isinstance(text, str) else None for text in value]
    for index, known in enumerate(found):
        if known is None:
            raise invalid(f"{path}[{index}]", "must be the id of a task")
    return tuple(dict.fromkeys(known for known in found if known is not None))


def instant(value: Any, path: str) -> datetime | None:
    """The instant, in UTC; None for null. Raises InvalidParamsError."""
    if value is None:
        return None
    try:
        found = parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise invalid(path, "must be an ISO 8601 instant with its offset, e.g. 2026-01-31T12:00:00Z")
    if not RUN_AFTER_YEARS[0] <= found.year <= RUN_AFTER_YEARS[1]:
        raise invalid(path, f"must be in the years {RUN_AFTER_YEARS[0]} to {RUN_AFTER_YEARS[1]}")
    return found.astimezone(UTC)
