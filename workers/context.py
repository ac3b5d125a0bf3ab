"""What a handler is given: the message, the parameters, and ways to say what it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import uuid_utils.compat
from a2a.types import Artifact, Message, Part, Role, TaskArtifactUpdateEvent
from django.conf import settings

from tasks_app.a2a.extension import skill_of
from tasks_app.agents import AgentError
from tasks_app.engine import ArtifactRecord, CheckpointRecord, Chunk, Claim, Note, Record
from tasks_app.nesting import DEPTH_MAX, is_too_deep
from workers.scratch import Scratch

#: What the columns hold; a name becomes an id, with a number where it is used again.
TEXTS_MAX_CHARS = {"name": 120, "media_type": 128, "filename": 256}


CHECKPOINT_NAME_CHARS = 64
CHECKPOINT_MAX_BYTES = 1024 * 1024


class LeaseLost(Exception):
    """The task was cancelled, timed out or taken over: what this attempt writes no longer counts. Stop."""


class Recorder(Protocol):
    """Where a context puts its records. Both lanes have one: see ``workers/recording.py``."""

    @property
    def lost(self) -> bool: ...

    def alive(self) -> None: ...

    def add(self, record: Record) -> None: ...

    def store(self, record: Record) -> None: ...

    def keep(self, record: Record) -> None: ...


class Context:
    """One attempt, as its handler sees it. Every method is safe to call from a coroutine: none waits long.

    What is said here reaches the database, and from there every stream, within about 0.1 s. A write that comes after
    the attempt lost its lease changes nothing.
    """

    def __init__(self, claim: Claim, recorder: Recorder, scratch: Scratch) -> None:
        self._claim = claim
        self._recorder = recorder
        self._scratch = scratch
        self._progress = 0.0
        self._ids: set[str] = set()
        self._checkpoints = dict(claim.checkpoints)
        self.message = Message.FromString(claim.message)

    @property
    def task_id(self) -> UUID:
        return self._claim.task_id

    @property
    def context_id(self) -> str:
        """A2A's context: the conversation that the task belongs to."""
        return self._claim.context_id

    @property
    def attempt(self) -> int:
        """1 for the first run."""
        return self._claim.attempt

    @property
    def skill(self) -> str:
        """The id of the skill that the message asks for, which its client may; empty if it names none."""
        return skill_of(self.message)

    @property
    def parameters(self) -> dict[str, Any]:
        """As the client sent them, checked against the agent's schema."""
        return self._claim.parameters

    @property
    def checkpoints(self) -> dict[str, Any]:
        """What this attempt and those before it left by :meth:`checkpoint`, by name."""
        return self._checkpoints

    @property
    def metadata(self) -> dict[str, Any]:
        return self._claim.metadata

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt: give it to outside systems, which may see a request more than once."""
        return f"{self._claim.task_id}:1"

    @property
    def text(self) -> str:
        """The message's text parts, joined by newlines."""
        return "\n".join(part.text for part in self.message.parts if part.WhichOneof("content") == "text")

    @property
    def cancelled(self) -> bool:
        """Whether to stop: the task was cancelled, or another attempt has it now."""
        self.heartbeat()
        return self._recorder.lost

    @property
    def scratch(self) -> Path:
        """A folder for temporary files of this attempt, removed when it has ended. Made when first asked for."""
        self.heartbeat()
        return self._scratch.folder()

    def heartbeat(self) -> None:
        """Says that the handler is alive, for agents with a ``heartbeat_timeout_s``; so does any other call here."""
        self._recorder.alive()

    def check(self) -> None:
        """Raises :class:`LeaseLost` if the handler should stop."""
        if self.cancelled:
            raise LeaseLost(f"attempt {self.attempt} of {self.task_id} lost its lease")

    def progress(self, fraction: float, message: str = "") -> None:
        """Says how far it is, 0.0–1.0; never goes back within an attempt. Raises :class:`LeaseLost` when to stop."""
        self.check()
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"progress is a fraction from 0.0 to 1.0, not {fraction}")
        self._progress = max(self._progress, float(fraction))
        self._recorder.add(Note(progress=self._progress, message=self._agent_message(message)))

    def checkpoint(self, name: str, data: Any) -> None:
        """Leaves JSON data that the next attempt finds in :attr:`checkpoints`, after all that was said before it.

        In a synchronous handler it is durable when this returns. Raises :class:`LeaseLost` when to stop, ``ValueError``
        for what is no JSON, too deep, or more than a MiB.
        """
        self.check()
        if not 0 < len(name) <= CHECKPOINT_NAME_CHARS or "\x00" in name:
            raise ValueError(f"checkpoint name: must have 1 to {CHECKPOINT_NAME_CHARS} characters, none of them NUL")
        self._recorder.store(CheckpointRecord(name=name, data=_checkpoint_data(data)))
        self._checkpoints[name] = data

    def say(self, text: str) -> None:
        """Sends the client a message, without changing the progress."""
        self.check()
        self._recorder.add(Note(kind="message", progress=self._progress, message=self._agent_message(text)))

    def artifact(
        self,
        content: bytes | str | dict[str, Any] | list[Any],
        *,
        name: str,
        media_type: str | None = None,
        description: str = "",
        filename: str | None = None,
    ) -> None:
        """Adds a result: bytes are kept as they are, text as UTF-8, anything else as JSON.

        An artifact of the same name made by a later attempt takes its place. Raises :class:`LeaseLost` when to stop.
        """
        self._recorder.add(self._artifact(content, name, media_type, description, filename))

    def result(self, content: bytes | str | dict[str, Any] | list[Any]) -> None:
        """What a handler returned: written with the finish."""
        self._recorder.keep(self._artifact(content, "result", None, "", None))

    def _artifact(
        self,
        content: bytes | str | dict[str, Any] | list[Any],
        name: str,
        media_type: str | None,
        description: str,
        filename: str | None,
    ) -> ArtifactRecord:
        self.check()
        _check_texts(name=name, media_type=media_type or "", filename=filename or "", description=description)
        artifact_id = self._free_id(name)
        event = TaskArtifactUpdateEvent(
            task_id=str(self.task_id),
            context_id=self.context_id,
            artifact=Artifact(artifact_id=artifact_id, name=name, description=description),
            last_chunk=True,
        )
        return ArtifactRecord(
            artifact_id=artifact_id,
            name=name,
            description=description,
            chunks=(chunk(content, media_type, filename or ""),),
            event=event.SerializeToString(),
        )

    def _free_id(self, name: str) -> str:
        """The name, or with a number where this attempt has used it; the same in every attempt."""
        artifact_id, number = name, 1
        while artifact_id in self._ids:
            number += 1
            artifact_id = f"{name}-{number}"
        self._ids.add(artifact_id)
        return artifact_id

    def _agent_message(self, text: str) -> bytes | None:
        return agent_message(self._claim, text) if text else None


def agent_message(claim: Claim, text: str) -> bytes:
    """A message of the agent's, as protobuf bytes."""
    message = Message(
        message_id=str(uuid_utils.compat.uuid7()),
        context_id=claim.context_id,
        task_id=str(claim.task_id),
        role=Role.ROLE_AGENT,
        parts=[Part(text=text)],
    )
    return bytes(message.SerializeToString())


def chunk(content: bytes | str | dict[str, Any] | list[Any], media_type: str | None, filename: str) -> Chunk:
    """The content as the one part of an artifact."""
    if isinstance(content, bytes):
        kind, data, default = "raw", content, "application/octet-stream"
    elif isinstance(content, str):
        kind, data, default = "text", content.encode(), "text/plain"
    else:
        if is_too_deep(content):
            raise ValueError(f"content: nested deeper than {DEPTH_MAX} levels")
        kind, data, default = "data", json.dumps(content, allow_nan=False).encode(), "application/json"
    if len(data) > settings.A2A_MAX_ARTIFACT_BYTES:
        limit = settings.A2A_MAX_ARTIFACT_BYTES
        raise AgentError(f"an artifact has {len(data)} bytes; the limit is {limit}", code="artifact_too_large")
    return Chunk(kind=kind, content=data, media_type=media_type or default, filename=filename)


def _checkpoint_data(data: Any) -> str:
    """The data as JSON text. Raises ValueError for what PostgreSQL or the next attempt could not read."""
    if is_too_deep(data):
        raise ValueError(f"checkpoint data: nested deeper than {DEPTH_MAX} levels")
    try:
        text = json.dumps(data, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"checkpoint data: {error}") from error
    if "\\u0000" in text:
        raise ValueError("checkpoint data: may not hold NUL characters")
    if len(text) > CHECKPOINT_MAX_BYTES:
        raise ValueError(f"checkpoint data: has {len(text)} bytes; the limit is {CHECKPOINT_MAX_BYTES}")
    return text


def _check_texts(**texts: str) -> None:
    """Raises ValueError for what the artifact's columns cannot hold."""
    for what, text in texts.items():
        limit = TEXTS_MAX_CHARS.get(what)
        if "\x00" in text or (limit is not None and len(text) > limit):
            raise ValueError(f"artifact {what}: must have at most {limit} characters, none of them NUL")
