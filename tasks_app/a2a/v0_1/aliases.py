"""What 0.1's ids stand for: a task by its client's name for it, a message by what it says and when."""

from __future__ import annotations

import hashlib
from typing import Any

from a2a.types import Message

from tasks_app import reads
from tasks_app.a2a.errors import invalid
from tasks_app.operations import Call
from tasks_app.reads import Begun
from tasks_app.status import INTERRUPTED
from tasks_app.web import web

#: Before an alias, in the id of the message that made its task.
PREFIX = "a2a-0.1:"
#: So that the ids of its messages fit.
ALIAS_MAX_CHARS = 200


def checked(alias: Any) -> str:
    """The client's id of a task. Raises InvalidParamsError."""
    if not isinstance(alias, str) or not alias:
        raise invalid("id", "is required and must be a string")
    if len(alias) > ALIAS_MAX_CHARS or "\x00" in alias:
        raise invalid("id", f"must have at most {ALIAS_MAX_CHARS} characters, none of them NUL")
    return alias


async def task_of(call: Call, alias: Any) -> Begun | None:
    """The task that the caller calls so at this agent."""
    if not isinstance(alias, str) or "\x00" in alias:
        return None
    return await web().read(reads.begun, message_id=first(alias), client_id=call.caller.client_id, agent=call.spec.name)


def first(alias: str) -> str:
    """The id of the message that makes the task."""
    return PREFIX + alias


def following(alias: str, task: Begun, message: Message) -> str:
    """The id of a further message: the same for a repeat while the task works on it, another for its next question."""
    answered = task.consumed_seq + (task.status in INTERRUPTED)
    return f"{first(alias)}:{answered}:{_content(message)}"


def is_first_again(task: Begun, message: Message) -> bool:
    """Whether it repeats the message that made the task. While the task asks its client, every message is an answer."""
    return task.status not in INTERRUPTED and _content(message) == _content(Message.FromString(task.message))


def _content(message: Message) -> str:
    parts = Message(parts=message.parts).SerializeToString(deterministic=True)
    return hashlib.sha256(parts).hexdigest()[:16]
