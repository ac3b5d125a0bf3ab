"""Agents: what is declared about a handler, and the registry of them.

Pure: importing this imports no handler. The registry is filled by importing the modules that the setting
``A2A_AGENTS`` names; a module declares its agents with the decorator :func:`agent`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import jsonschema
from django.core.exceptions import ImproperlyConfigured

from tasks_app.policies import BreakerPolicy, Resources, RetryPolicy
from tasks_app.scopes import is_scope
from tasks_app.status import Lane, TaskStatus

if TYPE_CHECKING:
    from a2a.types import Message

Handler = Callable[[Any], Any]
#: The longest a handler may put its task off, in seconds: 30 days.
SNOOZE_MAX_S = 30 * 86_400.0
#: What an agent replies with.
TASK, MESSAGE = "task", "message"
#: A media type, or a pattern of some: ``text/*``.
_MODE = re.compile(r"[\w.+*-]+/[\w.+*-]+")


class AgentError(Exception):
    """Raised by a handler to fail its task with a sentence the client may read.

    ``code`` is a stable word for programs. Never put a patient's or a user's data into the sentence, which may be an
    A2A Message. With ``retryable`` the task is tried again while attempts are left, after ``delay_s`` seconds if that
    is named, else after the backoff of the agent's retry policy.
    """

    def __init__(
        self,
        message: str | Message,
        *,
        code: str = "agent_error",
        retryable: bool = False,
        delay_s: float | None = None,
    ) -> None:
        super().__init__(_text(message))
        #: The sentence, as it was given.
        self.message = message
        self.code = code
        self.retryable = retryable
        self.delay_s = delay_s

    def __reduce__(self) -> tuple[Any, ...]:
        """As of :class:`TurnEnd`."""
        return type(self), self.args, {**vars(self), "message": str(self)}


class Snooze(Exception):
    """Raised by a handler to be run again in ``delay_s`` seconds, without spending an attempt: not yet my time."""

    def __init__(self, delay_s: float, message: str = "") -> None:
        if not 0 <= delay_s <= SNOOZE_MAX_S:
            raise ValueError(f"delay_s: must be from 0 to {SNOOZE_MAX_S:g} seconds")
        super().__init__(message or f"snoozed for {delay_s:g} s")
        self.delay_s = delay_s


class TurnEnd(Exception):
    """Raised by a handler to end its turn in a state of its choice; see the classes below.

    ``message`` is what the client reads: a text, or an A2A Message, whose role and ids are set for it.
    """

    status: ClassVar[TaskStatus]

    def __init__(self, message: str | Message = "") -> None:
        super().__init__(_text(message) or type(self).__name__)
        self.message = message

    def __reduce__(self) -> tuple[type[TurnEnd], tuple[str]]:
        """Celery sends a copy to the worker's parent process: of a message, which cannot be pickled, its text."""
        return type(self), (str(self),)


class InputRequired(TurnEnd):
    """The client has to say something first. Its next message begins another turn; no attempt is spent."""

    status = TaskStatus.INPUT_REQUIRED


class AuthRequired(TurnEnd):
    """The client has to authorise something first, as the message says (A2A 1.0, section 7.6); else as InputRequired.

    Raises ``ValueError`` without a message.
    """

    status = TaskStatus.AUTH_REQUIRED

    def __init__(self, message: str | Message) -> None:
        if not message or (not isinstance(message, str) and not message.parts):
            raise ValueError("message: must say what has to be authorised")
        super().__init__(message)


class Rejected(TurnEnd):
    """The agent does not do this, and the task has ended. Not a failure: nothing broke, and nothing is tried again."""

    status = TaskStatus.REJECTED


class Cancelled(TurnEnd):
    """The agent has given the task up by itself, and it has ended. As with Rejected, nothing broke."""

    status = TaskStatus.CANCELLED


class UnknownAgent(LookupError):
    """No agent of this name is registered."""


class UnknownSkill(LookupError):
    """The agent declares no skill of this id."""


class BadParameters(ValueError):
    """The parameters do not fit the agent's JSON Schema; ``field`` is the dotted path of the first that does not."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """One thing an agent can do, as its card shows it (A2A 1.0, section 4.4.5).

    ``input_modes`` and ``output_modes`` are the agent's where they are empty. ``scopes`` are what a caller's credential
    must hold, all of them, to ask for it.
    """

    id: str
    name: str
    description: str
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    input_modes: tuple[str, ...] = ()
    output_modes: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension of A2A that an agent supports (A2A 1.0, section 4.6). A request must name one that is required."""

    uri: str
    description: str = ""
    required: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """What the system knows of an agent.

    ``input_modes`` are the media types a part may have (``text/*`` style patterns are allowed); a part that declares
    none fits always.

    Times are in seconds. ``timeout_s`` is the longest one attempt may run; ``start_deadline_s`` how soon after it may
    first run a task must have started, or it fails; ``heartbeat_timeout_s`` how long a handler may be silent (any call
    of its context is a sign of life) before the attempt is ended and tried again; ``input_timeout_s`` how long a task
    waits for its client's answer. ``max_attempts`` counts the attempts that spend one: see ``Task.spent``.

    ``max_running`` and ``dispatch_rate_per_s`` bound what is let through at once and per second, over all workers; an
    operator's ``QueueControl`` goes before both. ``resources`` are what a task needs if it does not ask for others.

    ``keep_days`` and ``keep_failed_days`` are how long its tasks are kept after their end, in place of the settings'
    ``A2A_KEEP_DAYS`` and ``A2A_KEEP_FAILED_DAYS``; 0 keeps for ever.

    ``takes_urls``: a part may be a URL, which the handler fetches if it wants what is there, by ``ctx.open``; others
    are refused.

    ``replies`` is what a client gets for its message: the ``task``, or the one ``message`` that the handler returns, a
    text or an A2A Message (A2A 1.0, section 3.1.1). The task is there all the same.

    ``extended_description`` and ``extended_skills`` stand in the card that authenticated callers get, the skills only
    for those who hold their scopes. ``extensions`` are those of A2A that the handler supports.
    """

    name: str
    handler: Handler
    lane: Lane
    description: str
    version: str = "1.0.0"
    skills: tuple[Skill, ...] = ()
    extended_description: str = ""
    extended_skills: tuple[Skill, ...] = ()
    extensions: tuple[Extension, ...] = ()
    documentation_url: str = ""
    icon_url: str = ""
    input_modes: tuple[str, ...] = ("*/*",)
    output_modes: tuple[str, ...] = ("application/json", "text/plain")
    parameters_schema: Mapping[str, Any] | None = None
    max_attempts: int = 3
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_s: float = 1800.0
    start_deadline_s: float | None = None
    heartbeat_timeout_s: float | None = None
    input_timeout_s: float = 7 * 86_400.0
    max_running: int | None = None
    dispatch_rate_per_s: float | None = None
    breaker: BreakerPolicy | None = None
    resources: Resources = field(default_factory=Resources)
    keep_days: float | None = None
    keep_failed_days: float | None = None
    takes_urls: bool = False
    replies: str = TASK
    _validator: Any = field(default=None, init=False, repr=False, compare=False)
    #: Known to fit the schema: no parameters, as most messages have.
    _takes_none: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_card()
        if self.parameters_schema is not None:
            jsonschema.Draft202012Validator.check_schema(self.parameters_schema)
            validator = jsonschema.Draft202012Validator(self.parameters_schema)
            object.__setattr__(self, "_validator", validator)

    def _check_numbers(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"agent '{self.name}': max_attempts must be at least 1")
        above_zero = ("timeout_s", "start_deadline_s", "heartbeat_timeout_s", "input_timeout_s", "dispatch_rate_per_s")
        for name in above_zero:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"agent '{self.name}': {name} must be more than 0")
        for name in ("keep_days", "keep_failed_days"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"agent '{self.name}': {name} must be at least 0")
        if self.max_running is not None and self.max_running < 1:
            raise ValueError(f"agent '{self.name}': max_running must be at least 1")
        if self.replies not in (TASK, MESSAGE):
            raise ValueError(f"agent '{self.name}': replies must be '{TASK}' or '{MESSAGE}'")

    def _check_card(self) -> None:
        """What A2A requires of a card (section 4.4), and what its clients could not read."""
        for name in ("name", "description", "version"):
            if not getattr(self, name).strip():
                raise ValueError(f"agent '{self.name}': {name} may not be empty")
        if not self.input_modes or not self.output_modes:
            raise ValueError(f"agent '{self.name}': input_modes and output_modes may not be empty")
        modes = [*self.input_modes, *self.output_modes]
        modes += [mode for skill in self.every_skill for mode in (*skill.input_modes, *skill.output_modes)]
        wrong = [mode for mode in modes if not _MODE.fullmatch(mode)]
        if wrong:
            raise ValueError(f"agent '{self.name}': '{wrong[0]}' is no media type")
        self._check_skills()
        uris = [extension.uri for extension in self.extensions]
        if len(set(uris)) < len(uris) or any("," in uri or not uri.strip() for uri in uris):
            raise ValueError(f"agent '{self.name}': each extension needs a URI of its own")

    def _check_skills(self) -> None:
        ids = [skill.id for skill in self.every_skill]
        if len(set(ids)) < len(ids):
            raise ValueError(f"agent '{self.name}': two skills have the same id")
        for skill in self.every_skill:
            if not (skill.id.strip() and skill.name.strip() and skill.description.strip()):
                raise ValueError(f"agent '{self.name}': a skill needs an id, a name and a description")
            wrong = [scope for scope in skill.scopes if not is_scope(scope)]
            if wrong:
                raise ValueError(f"agent '{self.name}', skill '{skill.id}': '{wrong[0]}' is no scope")

    @property
    def public_skills(self) -> tuple[Skill, ...]:
        """Those of the public card; the agent itself if it declares none, because a card must have one."""
        itself = Skill(id=self.name, name=self.name, description=self.description, tags=(self.lane.value,))
        return self.skills or (itself,)

    @property
    def every_skill(self) -> tuple[Skill, ...]:
        """Those of the public card, and those of the extended one."""
        return (*self.public_skills, *self.extended_skills)

    def scopes_for(self, skill: str) -> frozenset[str]:
        """The scopes of the skill of this id; of all skills, where it is empty: the agent may use any.

        Raises :class:`UnknownSkill`.
        """
        asked = [known for known in self.every_skill if skill in ("", known.id)]
        if skill and not asked:
            ids = ", ".join(known.id for known in self.public_skills)
            raise UnknownSkill(f"agent '{self.name}' has no skill '{skill}'; there are: {ids}")
        return frozenset(scope for known in asked for scope in known.scopes)

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Raises :class:`BadParameters` naming the first field that does not fit the schema."""
        if self._validator is None or (self._takes_none and not parameters):
            return
        error = jsonschema.exceptions.best_match(self._validator.iter_errors(parameters))
        if error is not None:
            path = ".".join(["parameters", *map(str, error.absolute_path)])
            raise BadParameters(error.message, field=path)
        if not parameters:
            object.__setattr__(self, "_takes_none", True)

    def accepts(self, media_type: str) -> bool:
        """Whether a part of this media type may be sent to the agent; an empty one always may."""
        if not media_type:
            return True
        kind = media_type.partition(";")[0].strip().lower()
        family = kind.partition("/")[0] + "/*"
        return any(mode in ("*/*", family, kind) for mode in self.input_modes)


_registry: dict[str, AgentSpec] = {}


def agent(
    name: str,
    *,
    lane: str | Lane,
    description: str,
    **options: Any,
) -> Callable[[Handler], Handler]:
    """Registers the decorated function as an agent; ``options`` are the fields of :class:`AgentSpec`.

    The function takes one :class:`workers.context.Context` and may be ``async``. Raises ``ValueError`` if another
    function already has the name.
    """

    def register(handler: Handler) -> Handler:
        known = _registry.get(name)
        if known is not None and _place(known.handler) != _place(handler):
            raise ValueError(f"two agents are named '{name}'")
        _registry[name] = AgentSpec(name=name, handler=handler, lane=Lane(lane), description=description, **options)
        return handler

    return register


def _text(message: str | Message) -> str:
    """What it says in words."""
    return message if isinstance(message, str) else " ".join(part.text for part in message.parts if part.text)


def _place(handler: Handler) -> tuple[str, str]:
    """Where a function is defined: the same after its module was imported again."""
    return handler.__module__, handler.__qualname__


def load(modules: list[str]) -> None:
    """Imports the modules, so that the agents they declare are registered.

    Raises ImproperlyConfigured naming the module that is not there.
    """
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there; something that it imports is not
            raise ImproperlyConfigured(f"A2A_AGENTS: there is no module '{module}'") from error


def get(name: str) -> AgentSpec:
    """The agent of this name. Raises :class:`UnknownAgent` that lists the names there are."""
    try:
        return _registry[name]
    except KeyError:
        raise UnknownAgent(f"no agent '{name}'; there are: {', '.join(sorted(_registry)) or 'none'}") from None


def registered() -> dict[str, AgentSpec]:
    """All agents by name."""
    return dict(_registry)
