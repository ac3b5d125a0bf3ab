"""What a running attempt puts on record, as values; ``engine/write`` stores them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat

from artifacts_app.blobs import Stored
from tasks_app.models.attempt import Outcome
from tasks_app.status import Priority, TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Progress (0.0–1.0), a message, or both. ``message`` is an A2A Message as protobuf bytes."""

    kind: str = "progress"
    progress: float | None = None
    message: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """What the next attempt shall find under ``name``. ``data`` is JSON as text."""

    name: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One part's content; ``kind`` is text, data, raw or url (whose content is the URL, as UTF-8).

    It is here, or where ``stored`` says.
    """

    kind: str
    content: bytes = b""
    media_type: str
    filename: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    stored: Stored | None = None

    @property
    def size_bytes(self) -> int:
        return self.stored.size_bytes if self.stored else len(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    """An artifact, or a piece of one; ``event`` is its TaskArtifactUpdateEvent without parts.

    ``append``: it adds to what the same attempt wrote before, which had ``parts_before`` and ``bytes_before``.
    ``kept_generation``: it begins with what an earlier attempt left, as it stood then, which had them. ``last_chunk``:
    no more will be added.
    """

    artifact_id: str
    chunks: tuple[Chunk, ...]
    event: bytes
    name: str = ""
    version: int = 1
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    append: bool = False
    last_chunk: bool = True
    kept_generation: int | None = None
    parts_before: int = 0
    bytes_before: int = 0
    id: UUID = field(default_factory=uuid_utils.compat.uuid7)

    @property
    def is_whole(self) -> bool:
        """Whether all of the artifact's content is here."""
        return self.last_chunk and not self.append and self.kept_generation is None

    @property
    def knows_sum(self) -> bool:
        """Whether the content's sum is known without reading what stands in a storage."""
        return self.is_whole and (len(self.chunks) == 1 or not any(chunk.stored for chunk in self.chunks))

    def sha256(self) -> bytes | None:
        """Of the content, if it is known here."""
        if not self.knows_sum:
            return None
        if self.chunks[0].stored:
            return self.chunks[0].stored.sha256
        return hashlib.sha256(b"".join(chunk.content for chunk in self.chunks)).digest()


Record = Note | CheckpointRecord | ArtifactRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an attempt used, as far as it was measured: bytes, seconds of processor time, bytes."""

    peak_rss_bytes: int | None = None
    cpu_s: float | None = None
    disk_bytes: int | None = None


#: Nobody measured.
UNMEASURED = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of an attempt: the task's next state, and how the attempt itself ended.

    ``wait_s``: into pending, how long not to run it; into input or auth required, how long to wait for the client.
    ``spend``: whether it counts against the attempts of the task.
    """

    status: TaskStatus
    outcome: Outcome
    error: dict[str, str] | None = None
    message: bytes | None = None
    traceback: str = ""
    wait_s: float = 0.0
    spend: bool = True
    usage: Usage = UNMEASURED


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Everything one attempt has to say now, in order; ``finish`` ends it.

    ``progress`` is where it stood before, ``recorded`` how many records and ends it had written before: a write that
    is repeated, because the answer to it was lost, is recognised by that and changes nothing.
    """

    task_id: UUID
    attempt_id: UUID
    progress: float = 0.0
    recorded: int = 0
    records: tuple[Record, ...] = ()
    finish: Finish | None = None

    @property
    def count(self) -> int:
        """How many events it makes."""
        return len(self.records) + (self.finish is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Whether the write was accepted; if not, the attempt has lost its lease and must stop.

    ``generation`` is the task's newest after it, ``status`` the task's state, ``at`` the database's clock.
    """

    accepted: bool
    generation: int = 0
    lane: str = ""
    agent: str = ""
    priority: Priority = Priority.NORMAL
    status: TaskStatus = TaskStatus.RUNNING
    started_at: datetime | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A task that somebody else than its attempt moved on: a sweep, a worker's parent, an operator.

    ``outcome`` is that of the attempt that ended with it, None if none did.
    """

    task_id: UUID
    lane: str
    agent: str
    priority: Priority
    status: TaskStatus
    outcome: Outcome | None = None
    started_at: datetime | None = None
    at: datetime | None = None
