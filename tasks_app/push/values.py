"""What the parts of push notifications hand each other. Pure: the engine imports it."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import uuid_utils.compat


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPush:
    """A webhook that a client asks for; already validated. ``token`` and ``credentials`` are sealed.

    ``config_id`` is made where the client named none (``named`` is then False). ``host`` is the url's, with its port.
    ``id`` is made here, so that a repeat after a lost connection is the same config.
    """

    config_id: str
    named: bool
    url: str
    host: str
    token: bytes | None = None
    scheme: str = ""
    credentials: bytes | None = None
    id: UUID = field(default_factory=uuid_utils.compat.uuid7)

    def asked(self) -> list[str]:
        """What makes a repeat of a message the same request: where to, not with which secrets, which may be renewed."""
        return [self.config_id if self.named else "", self.url, self.scheme]


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A stored config as its client sees it: without its secrets."""

    task_id: UUID
    config_id: str
    url: str
    scheme: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Configs in order of their ids; ``next`` is the last one's id if there are more."""

    configs: tuple[Push, ...]
    next: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A config that this claim may deliver from: the event after ``delivered``, and then each next one.

    It is a task's or a batch's: one of ``task_id`` and ``batch_id`` is there.
    ``token``, ``credentials`` and ``secrets`` (newest first) are sealed. ``failures`` are those of the next event.
    """

    id: UUID
    claim: UUID
    task_id: UUID | None
    batch_id: UUID | None
    config_id: str
    context_id: str
    url: str
    host: str
    token: bytes | None
    scheme: str
    credentials: bytes | None
    secrets: tuple[bytes, ...]
    delivered: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One HTTP request that was tried: its event, how long it took, and the answer's status or why there was none."""

    generation: int
    number: int
    duration_s: float
    status_code: int | None = None
    error: str = ""
    id: UUID = field(default_factory=uuid_utils.compat.uuid7)
