"""What an agent says in A2A's events, put on record by a task's context. Both adapters speak through it."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from uuid import uuid4

from a2a.types import Artifact, Message, Role, Task, TaskArtifactUpdateEvent, TaskState, TaskStatus
from a2a.types import TaskStatusUpdateEvent as StatusUpdate
from google.protobuf.struct_pb2 import Struct

from tasks_app.agents import AuthRequired, InputRequired, Rejected, TurnEnd
from tasks_app.media_types import is_media_type
from workers.context import Context, part_chunk

log = logging.getLogger(__name__)

TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)
INTERRUPTED = frozenset({TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED})
#: How turns end that neither complete nor fail, by the state that was said last; and what is said if nothing was.
_TURN_ENDS: dict[TaskState, tuple[type[TurnEnd], str]] = {
    TaskState.TASK_STATE_REJECTED: (Rejected, ""),
    TaskState.TASK_STATE_INPUT_REQUIRED: (InputRequired, ""),
    TaskState.TASK_STATE_AUTH_REQUIRED: (AuthRequired, "authorisation is required"),
}
#: What this product itself puts into the metadata of its events: of another task's, it would only mislead.
_OURS = frozenset({"generation", "progress", "attempt"})


class End(NamedTuple):
    """The last state that was said, if it ends a turn; ``message`` is empty if nothing was said with it."""

    state: TaskState
    message: Message | str = ""


class Relay:
    """Puts events on record, each once.

    ``said`` are the ids of messages that are on record already, ``artifacts`` are those of the task as it was before;
    ``named`` gives the id under which an artifact is recorded.
    """

    def __init__(
        self,
        ctx: Context,
        *,
        said: Iterable[str] = (),
        artifacts: Iterable[Artifact] = (),
        named: Callable[[str], str] = str,
    ) -> None:
        self._ctx = ctx
        self._said = set(said)
        self._named = named
        #: By id, what has been recorded of an artifact.
        self._digests = {artifact.artifact_id: _digest(artifact) for artifact in artifacts}
        self.end: End | None = None

    @property
    def has_ended(self) -> bool:
        """Whether what was said last is terminal: nothing counts after it."""
        return self.end is not None and self.end.state in TERMINAL

    def task(self, task: Task) -> None:
        """A whole task: what is new of its messages and artifacts, and its state."""
        self.contents(task)
        self.status(StatusUpdate(status=task.status))

    def contents(self, task: Task) -> None:
        """What is new of a task's messages, but that of its state, and of its artifacts."""
        for message in task.history:
            if message.role == Role.ROLE_AGENT and message.message_id != task.status.message.message_id:
                self._say(message)
        for artifact in map(_storable, task.artifacts):
            known = self._digests.get(artifact.artifact_id)
            if known is None or known.digest() != _digest(artifact).digest():
                self.artifact(TaskArtifactUpdateEvent(artifact=artifact, last_chunk=True))

    def status(self, update: StatusUpdate) -> None:
        """A state: kept if it ends the turn, else its message and progress are recorded."""
        self._ctx.check()
        self.show_end()  # what seemed to end the turn did not
        self.end = None
        message = _with_metadata(update.status, update.metadata)
        if update.status.state in TERMINAL or update.status.state in _TURN_ENDS:
            self.end = End(update.status.state, message or "")
            return
        fraction = _fraction(update.metadata)
        if fraction is not None:
            self._ctx.progress(fraction)
        if message is not None:
            self._say(message)

    def artifact(self, update: TaskArtifactUpdateEvent) -> None:
        """An artifact, or more of one."""
        artifact = _storable(update.artifact)
        digest = self._digests.get(artifact.artifact_id) if update.append else None
        self._digests[artifact.artifact_id] = _digest(artifact, digest)
        artifact.artifact_id = self._named(artifact.artifact_id)
        _keep(update.metadata, artifact.metadata)
        self._ctx.update_artifact(artifact, append=update.append, last_chunk=update.last_chunk)

    def show_end(self) -> None:
        """Says what the client was asked already now: the turn has not ended yet."""
        if self.end is not None and isinstance(self.end.message, Message) and not self._ctx.told_to_stop:
            self._say(self.end.message)

    def _say(self, message: Message) -> None:
        message.message_id = message.message_id or str(uuid4())
        if message.parts and message.message_id not in self._said:
            self._said.add(message.message_id)
            self._ctx.say(message)


def settle(end: End) -> Message | None:
    """What a handler returns after this end. Raises Rejected, InputRequired or AuthRequired."""
    if end.state in _TURN_ENDS:
        kind, default = _TURN_ENDS[end.state]
        raise kind(end.message or default)
    return end.message if isinstance(end.message, Message) else None


def _with_metadata(status: TaskStatus, metadata: Struct) -> Message | None:
    """The message of a status, with what is said about both; None if there is none."""
    if not status.message.parts:
        return None
    message: Message = Message.FromString(status.message.SerializeToString())
    _keep(metadata, message.metadata)
    return message


def _keep(metadata: Struct, among: Struct) -> None:
    """Keeps the metadata of an event with that of its content, which goes before it."""
    for name, value in metadata.fields.items():
        if name not in _OURS and name not in among.fields:
            among.fields[name].CopyFrom(value)


def _fraction(metadata: Struct) -> float | None:
    """The progress that an event's metadata tells; None if they tell none."""
    value = metadata.fields.get("progress")
    if value is None or value.WhichOneof("kind") != "number_value":
        return None
    number = float(value.number_value)
    return number if math.isfinite(number) and 0.0 <= number <= 1.0 else None


def _storable(said: Artifact) -> Artifact:
    """A copy of it. A part whose media type is none has its kind's own: what it holds is not lost for that."""
    artifact: Artifact = Artifact.FromString(said.SerializeToString())
    for part in artifact.parts:
        if part.media_type and not is_media_type(part.media_type):
            log.info(
                "artifact %s: has a part of the media type %.200r, which is none", said.artifact_id, part.media_type
            )
            part.ClearField("media_type")
    return artifact


def _digest(artifact: Artifact, before: Any = None) -> Any:
    """A hash of the parts of an artifact as they are stored, after those that were hashed before."""
    digest = hashlib.sha256() if before is None else before.copy()
    for part in artifact.parts:
        stored = part_chunk(part)
        about = (stored.kind, stored.media_type, stored.filename, stored.metadata, len(stored.content))
        digest.update(repr(about).encode() + stored.content)
    return digest
