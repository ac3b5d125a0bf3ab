"""Messages for reading: who said what. Of raw parts the name, type and size; never their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from a2a.types import Message, Part, Role
from django.db.models import Case, Func, IntegerField, QuerySet, When
from django.utils.safestring import SafeString
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from tasks_app.admin import looks, previews
from tasks_app.engine import files
from tasks_app.models import EventKind, Task, TaskEvent

#: As many of the newest messages are shown, beside the first.
MESSAGES_MAX = 100
PARTS_MAX = 50
#: A larger payload of an event is not read for showing it.
PAYLOAD_MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLook:
    """``kind`` is text, data, file or url; a file has no text."""

    kind: str
    text: str = ""
    cut: bool = False
    name: str = ""
    media_type: str = ""
    size: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLook:
    """``role`` is client or agent."""

    role: str
    at: SafeString | str
    parts: Sequence[PartLook]
    hidden_parts: int = 0


def conversation(task: Task) -> list[MessageLook]:
    """What was said, oldest first: the request, then messages of either side. Notes on progress are in the timeline."""
    said = (
        readable(task.id)
        .filter(kind__in=[EventKind.MESSAGE, EventKind.STATUS], payload__isnull=False)
        .order_by("-generation")[:MESSAGES_MAX]
    )
    replies = [_message(parsed(event.small_payload), event.created_at) for event in reversed(said)]
    return [_message(parsed(task.request.message), task.created_at), *replies]


def readable(task_id: UUID) -> QuerySet[Any]:
    """The task's events, each with ``small_payload``: None if there is none or it is too large to show."""
    length = Func("payload", function="octet_length", output_field=IntegerField())
    small = Case(When(size_bytes__lte=PAYLOAD_MAX_BYTES, then="payload"), default=None)
    events = TaskEvent.objects.filter(task_id=task_id).defer("payload")
    return events.annotate(size_bytes=length).annotate(small_payload=small)


def parsed(payload: bytes | memoryview | None) -> Message:
    """The message of these bytes; an empty one if there are none, or if they are none of ours."""
    try:
        message: Message = Message.FromString(bytes(payload or b""))
    except DecodeError:
        return Message()
    return message


def text_of(message: Message) -> str:
    """The text parts, for one line."""
    return " ".join(part.text for part in message.parts if part.WhichOneof("content") == "text")


def _message(message: Message, at: datetime) -> MessageLook:
    shown = [_part(part) for part in message.parts[:PARTS_MAX]]
    role = "client" if message.role == Role.ROLE_USER else "agent"
    return MessageLook(role=role, at=looks.when(at), parts=shown, hidden_parts=max(len(message.parts) - PARTS_MAX, 0))


def _part(part: Part) -> PartLook:
    kind = part.WhichOneof("content")
    if kind == "text":
        text, cut = previews.bounded(part.text)
        return PartLook(kind="text", text=text, cut=cut, name=part.filename, media_type=part.media_type)
    if kind == "data":
        text, cut = previews.bounded(previews.pretty(MessageToDict(part.data)))
        return PartLook(kind="data", text=text, cut=cut, name=part.filename, media_type=part.media_type)
    stored = files.addressed(part)
    if stored is not None:
        named = part.filename or "unnamed"
        return PartLook(kind="file", name=named, media_type=part.media_type, size=looks.size(stored.size_bytes))
    if kind == "url":
        return PartLook(kind="url", text=part.url[:2000], name=part.filename, media_type=part.media_type)
    return PartLook(
        kind="file", name=part.filename or "unnamed", media_type=part.media_type, size=looks.size(len(part.raw))
    )
