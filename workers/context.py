"""What a handler is given: the message, the parameters, and ways to say what it does."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol
from uuid import UUID

import uuid_utils.compat
from a2a.types import Artifact, Message, Part, Role, TaskArtifactUpdateEvent
from django.conf import settings
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from artifacts_app.sniffing import START_BYTES, plainly_other
from tasks_app.a2a.extension import skill_of
from tasks_app.agents import AgentError, AuthRequired, InputRequired
from tasks_app.engine import ArtifactRecord, CheckpointRecord, Chunk, Claim, Note, Record, files
from tasks_app.media_types import is_media_type
from tasks_app.nesting import DEPTH_MAX, is_too_deep
from workers import storing
from workers.scratch import Scratch

#: What the columns hold; a name becomes an id, with a number where it is used again.
TEXTS_MAX_CHARS = {"name": 120, "artifact_id": 128, "artifact_name": 256, "filename": 256}


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

    async def flush(self) -> None: ...


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
        #: Of the names that it gave to artifacts, the id of the last.
        self._named: dict[str, str] = {}
        #: Of the ids that it gave, which of its name each is.
        self._versions: dict[str, int] = {}
        #: How many parts and bytes each artifact has that this attempt has written.
        self._lengths: dict[str, tuple[int, int]] = {}
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
    def client(self) -> str:
        """Whose task it is, by name."""
        return self._claim.client

    @property
    def turn(self) -> int:
        """1 while it answers the message that made the task, one more for each further message of the client."""
        return self._claim.turn

    @cached_property
    def history(self) -> list[Message]:
        """What client and agent said before this turn, oldest first; empty in the first."""
        return [Message.FromString(data) for data in self._claim.history]

    @property
    def accepted_output_modes(self) -> tuple[str, ...]:
        """The media types that the client takes as an answer to the message; empty if it did not say."""
        return self._claim.accepted_output_modes

    @property
    def attempt(self) -> int:
        """1 for the first run, whatever its turn."""
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
        """The same for every attempt of a turn: give it to outside systems, which may see a request more than once."""
        return f"{self._claim.task_id}:{self.turn}"

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

    @property
    def told_to_stop(self) -> bool:
        """As :attr:`cancelled`, for those who watch over a handler: it is no sign of life."""
        return self._recorder.lost

    def heartbeat(self) -> None:
        """Says that the handler is alive, for agents with a ``heartbeat_timeout_s``; so does any other call here."""
        self._recorder.alive()

    def check(self) -> None:
        """Raises :class:`LeaseLost` if the handler should stop."""
        if self.cancelled:
            raise LeaseLost(f"attempt {self.attempt} of {self.task_id} lost its lease")

    def progress(self, fraction: float, message: str | Message = "") -> None:
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

    async def saved(self) -> None:
        """Returns when all that was said before is in the database. Raises :class:`LeaseLost` when to stop."""
        await self._recorder.flush()
        self.check()

    def say(self, message: str | Message) -> None:
        """Sends the client a message, without changing the progress."""
        self.check()
        self._recorder.add(Note(kind="message", progress=self._progress, message=self._agent_message(message)))

    def require_input(self, message: str | Message) -> NoReturn:
        """Ends the turn: the task waits for its client's next message, which begins another. Raises InputRequired."""
        self.check()
        raise InputRequired(message)

    def require_auth(self, message: str | Message) -> NoReturn:
        """As :meth:`require_input`, where the client has to authorise what the message says. Raises AuthRequired."""
        self.check()
        raise AuthRequired(message)

    def artifact(
        self,
        content: bytes | str | dict[str, Any] | list[Any] | Path,
        *,
        name: str,
        media_type: str | None = None,
        description: str = "",
        filename: str | None = None,
        append: bool = False,
        last_chunk: bool = True,
    ) -> None:
        """Adds a result: bytes are kept as they are, text as UTF-8, a file by its path, anything else as JSON.

        A file may be larger than memory, and is whole: nothing is added to it. It is read before this returns: from a
        coroutine, call it by ``asyncio.to_thread``.

        The same name again is another version of it; a later attempt's takes its place. With ``append`` this is a
        further part of the artifact of that name; ``last_chunk=False`` says that more will come. A new attempt that
        appends goes on from what stood at the last checkpoint, or when the turn began. Raises :class:`LeaseLost` when
        to stop.
        """
        self.check()
        _check_texts(name=name, description=description)
        said = Artifact(artifact_id=self._id_of(name, append=append), name=name, description=description)
        if isinstance(content, Path):
            if append or not last_chunk:
                raise ValueError(f"artifact {name}: a file is whole; nothing can be added to it")
            parts = (file_chunk(content, media_type, filename),)
        else:
            parts = (chunk(content, media_type, filename or ""),)
        self._recorder.add(self._record(said, parts, append=append, last_chunk=last_chunk))

    def update_artifact(self, artifact: Artifact, *, append: bool = False, last_chunk: bool = True) -> None:
        """As :meth:`artifact`, of an A2A Artifact with an id, parts and metadata of the handler's own.

        The same id again takes the artifact's place, without ``append``. Raises :class:`LeaseLost` when to stop,
        ``ValueError`` for what cannot be stored.
        """
        self.check()
        if not artifact.artifact_id:
            raise ValueError("artifact_id: is required")
        texts = {"artifact_id": artifact.artifact_id, "artifact_name": artifact.name}
        _check_texts(**texts, description=artifact.description)
        said = Artifact.FromString(artifact.SerializeToString())
        del said.parts[:]
        self._ids.add(artifact.artifact_id)
        parts = tuple(part_chunk(part) for part in artifact.parts)
        self._recorder.add(self._record(said, parts, append=append, last_chunk=last_chunk))

    def open(self, part: Part) -> BinaryIO:
        """The file of a part of :attr:`message` or :attr:`history`, to be read from and closed; seekable.

        What its client has sent by itself, or its bytes; or what stands at its URL, fetched into :attr:`scratch` from
        public addresses only. It waits: from a coroutine, call it by ``asyncio.to_thread``. Raises AgentError where it
        cannot be had, ValueError for a part that is of no file.
        """
        self.check()
        if part.WhichOneof("content") == "url" and files.addressed(part) is None:
            from workers.fetching import fetch  # most handlers fetch nothing, and need none of its libraries

            return fetch(part.url, self.scratch / str(uuid_utils.compat.uuid7()), media_type=part.media_type).open("rb")
        return storing.opened(self._claim, part)

    def batch(self, tasks: Sequence[Mapping[str, Any]], *, key: str, **fields: Any) -> UUID:
        """Submits tasks of the same client as one batch, whose id it returns when they are durable.

        ``tasks`` and ``fields`` are those of ``POST /api/v1/batches/``. Under one ``key`` a turn makes one batch,
        however often it is tried. It waits for the database: from a coroutine, call it by ``asyncio.to_thread``.
        Raises :class:`LeaseLost` when to stop, ``ValueError`` naming what is wrong, AgentError to be tried again where
        the client has too many tasks waiting.
        """
        self.check()
        from workers.submitting import batch  # most handlers submit nothing, and need none of its libraries

        return batch(self._claim, {"tasks": list(tasks), **fields}, key=f"{self.idempotency_key}:{key}")

    def result(self, content: bytes | str | dict[str, Any] | list[Any]) -> None:
        """What a handler returned: written with the finish. Every turn has its own."""
        self.check()
        named = "result" if self.turn == 1 else f"result-{self.turn}"
        said = Artifact(artifact_id=self._id_of(named, append=False), name="result")
        self._versions[said.artifact_id] = self.turn
        self._recorder.keep(self._record(said, (chunk(content, None, ""),), append=False, last_chunk=True))

    def _record(self, said: Artifact, parts: tuple[Chunk, ...], *, append: bool, last_chunk: bool) -> ArtifactRecord:
        """What is written of an artifact, which is ``said`` without its parts, after what was written of it before."""
        before, kept_generation = self._lengths.get(said.artifact_id) if append else None, None
        appended = before is not None
        if append and before is None and (kept := self._claim.kept.get(said.artifact_id)):
            before, kept_generation = (kept.parts, kept.size_bytes), kept.generation
        if before is None and not parts:
            raise ValueError(f"artifact {said.artifact_id}: must have a part")
        parts_before, bytes_before = before or (0, 0)
        size_bytes = bytes_before + sum(part.size_bytes for part in parts)
        if not any(part.stored for part in parts):
            _check_size(size_bytes)
        self._lengths[said.artifact_id] = (parts_before + len(parts), size_bytes)
        event = TaskArtifactUpdateEvent(
            task_id=str(self.task_id),
            context_id=self.context_id,
            artifact=said,
            append=appended,
            last_chunk=last_chunk,
        )
        return ArtifactRecord(
            artifact_id=said.artifact_id,
            name=said.name,
            version=self._versions.get(said.artifact_id, 1),
            description=said.description,
            metadata=_json_of(said.metadata, what="artifact metadata"),
            chunks=parts,
            event=event.SerializeToString(),
            append=appended,
            last_chunk=last_chunk,
            kept_generation=kept_generation,
            parts_before=parts_before,
            bytes_before=bytes_before,
        )

    def _id_of(self, name: str, *, append: bool) -> str:
        """The name, or with a number where this attempt has used it; the same in every attempt.

        To append to: the id that this attempt gave to the name last.
        """
        if append and name in self._named:
            return self._named[name]
        artifact_id, number = name, 1
        while artifact_id in self._ids:
            number += 1
            artifact_id = f"{name}-{number}"
        self._ids.add(artifact_id)
        self._named[name] = artifact_id
        self._versions[artifact_id] = number
        return artifact_id

    def _agent_message(self, message: str | Message) -> bytes | None:
        return agent_message(self._claim, message) if message else None


def agent_message(claim: Claim, said: str | Message) -> bytes:
    """A message of the agent's, as protobuf bytes: this text, or this message as one of the task's.

    One without a part gets an empty text: on the wire a message has at least one (A2A 1.0, section 5.7).
    """
    message = (
        Message(parts=[Part(text=said)]) if isinstance(said, str) else Message.FromString(said.SerializeToString())
    )
    if not message.parts:
        message.parts.add(text="")
    message.message_id = message.message_id or str(uuid_utils.compat.uuid7())
    message.context_id, message.task_id, message.role = claim.context_id, str(claim.task_id), Role.ROLE_AGENT
    return bytes(message.SerializeToString())


def chunk(content: Any, media_type: str | None, filename: str, *, kind: str = "") -> Chunk:
    """The content as a part of an artifact: bytes, text, or JSON; of ``kind`` data whatever it is."""
    if isinstance(content, bytes):
        kind, data, default = "raw", content, "application/octet-stream"
        # Its type is what it shows, whatever it is said to be.
        media_type = plainly_other(media_type or "", content[:START_BYTES]) or media_type
    elif isinstance(content, str) and kind != "data":
        kind, data, default = "text", content.encode(), "text/plain"
    else:
        if is_too_deep(content):
            raise ValueError(f"content: nested deeper than {DEPTH_MAX} levels")
        kind, data, default = "data", json.dumps(content, allow_nan=False).encode(), "application/json"
    _check_size(len(data))
    _check_texts(filename=filename)
    _check_media_type(media_type or "")
    return Chunk(kind=kind, content=data, media_type=media_type or default, filename=filename)


def file_chunk(path: Path, media_type: str | None, filename: str | None) -> Chunk:
    """The file's content as a part of an artifact, stored by now; its type by its name where none is said."""
    named = path.name if filename is None else filename
    guessed = media_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    with path.open("rb") as file:
        guessed = plainly_other(guessed, file.read(START_BYTES)) or guessed
    _check_texts(filename=named)
    _check_media_type(guessed)
    stored = storing.put_file(path, limit_bytes=settings.A2A_MAX_FILE_BYTES)
    return Chunk(kind="raw", media_type=guessed, filename=named, stored=stored)


def part_chunk(part: Part) -> Chunk:
    """An A2A Part as it is stored."""
    kind = part.WhichOneof("content")
    if kind is None:
        raise ValueError("part: must have a content")
    if kind == "url":
        _check_texts(filename=part.filename)
        _check_media_type(part.media_type)
        made = Chunk(kind="url", content=part.url.encode(), media_type=part.media_type, filename=part.filename)
    else:
        content = MessageToDict(part.data) if kind == "data" else getattr(part, kind)
        made = chunk(content, part.media_type, part.filename, kind=kind)
    return replace(made, metadata=_json_of(part.metadata, what="part metadata"))


def _checkpoint_data(data: Any) -> str:
    """The data as JSON text. Raises ValueError for what PostgreSQL or the next attempt could not read."""
    text = _json_text(data, what="checkpoint data")
    if len(text) > CHECKPOINT_MAX_BYTES:
        raise ValueError(f"checkpoint data: has {len(text)} bytes; the limit is {CHECKPOINT_MAX_BYTES}")
    return text


def _json_of(struct: Struct, *, what: str) -> dict[str, Any]:
    """A protobuf Struct as JSON. Raises ValueError for what PostgreSQL could not keep."""
    data: dict[str, Any] = MessageToDict(struct)
    _json_text(data, what=what)
    return data


def _json_text(data: Any, *, what: str) -> str:
    if is_too_deep(data):
        raise ValueError(f"{what}: nested deeper than {DEPTH_MAX} levels")
    try:
        text = json.dumps(data, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"{what}: {error}") from error
    if "\\u0000" in text:
        raise ValueError(f"{what}: may not hold NUL characters")
    return text


def _check_size(size_bytes: int) -> None:
    limit = settings.A2A_MAX_ARTIFACT_BYTES
    if size_bytes > limit:
        raise AgentError(f"an artifact has {size_bytes} bytes; the limit is {limit}", code="artifact_too_large")


def _check_texts(**texts: str) -> None:
    """Raises ValueError for what the artifact's columns cannot hold."""
    for what, text in texts.items():
        limit = TEXTS_MAX_CHARS.get(what)
        if "\x00" in text or (limit is not None and len(text) > limit):
            raise ValueError(f"artifact {what}: must have at most {limit} characters, none of them NUL")


def _check_media_type(text: str) -> None:
    """Raises ValueError for what could not be sent as one. It may be left out."""
    if text and not is_media_type(text):
        raise ValueError(
            f"artifact media_type: must look like text/plain or text/html;charset=utf-8, not {text[:200]!r}"
        )
