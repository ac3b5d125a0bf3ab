"""From JSON to A2A's types, strictly where the protobuf parser is lenient: unknown enums, bad base64, wrong types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from a2a.types import Message, Part, Role, SendMessageConfiguration, TaskState
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message as Proto

from tasks_app.a2a import strict
from tasks_app.a2a.errors import invalid
from tasks_app.engine import files
from tasks_app.nesting import DEPTH_MAX, is_too_deep

P = TypeVar("P", bound=Proto)

_IDS = ("messageId", "contextId", "taskId")
_PLAIN = {*_IDS, "role", "parts"}
MESSAGE_ID_MAX_CHARS = 256
CONTEXT_ID_MAX_CHARS = 128
PARTS_MAX = 1_000
MEDIA_TYPES_MAX = 100
MEDIA_TYPE_MAX_CHARS = 128
#: Up to here every whole number is a float of its own.
WHOLE_MAX = 2.0**53
#: Where the protobuf parser says that the wrong value stands, at the end of some of its errors.
_AT = re.compile(r" at \w+\.([\w.\[\]]+)$")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


def message(data: Any, *, path: str) -> Message:
    """A client's message. ``path`` is where it stands in the request, for errors.

    Raises InvalidParamsError naming the field that is missing, of the wrong type, or cannot be decoded.
    """
    if data is None:
        raise invalid(path, "is required")
    if not isinstance(data, Mapping):
        raise invalid(path, "must be an object")
    _check_role(data.get("role"), f"{path}.role")
    _check_parts(data.get("parts"), f"{path}.parts")
    parsed = _plain(data) or proto(data, Message(), path=path)
    _check_ids(parsed, path)
    return parsed


def configuration(data: Any, *, path: str) -> SendMessageConfiguration:
    """How a message is to be answered. Raises InvalidParamsError naming the field."""
    if data is None:
        return SendMessageConfiguration()
    if isinstance(data, dict) and len(data) == 1 and isinstance(data.get("returnImmediately"), bool):
        return SendMessageConfiguration(return_immediately=data["returnImmediately"])
    return proto(data, SendMessageConfiguration(), path=path)


def _plain(data: Mapping[str, Any]) -> Message | None:
    """The message, if it is nothing but text and ids, as most are: protobuf's JSON parser takes ten times as long."""
    if not data.keys() <= _PLAIN or not all(isinstance(data.get(name, ""), str) for name in _IDS):
        return None
    if any(part.keys() != {"text"} for part in data["parts"]):
        return None
    return Message(
        message_id=data.get("messageId"),
        context_id=data.get("contextId"),
        task_id=data.get("taskId"),
        role=Role.ROLE_USER,
        parts=[Part(text=part["text"]) for part in data["parts"]],
    )


def proto(data: Any, into: P, *, path: str) -> P:
    """Parses ProtoJSON; fields that are not known are ignored (A2A 1.0, section 5.7). ``path`` may be empty."""
    if not isinstance(data, Mapping):
        raise invalid(path, "must be an object")
    strict.check(data, into.DESCRIPTOR, path=path)
    try:
        ParseDict(data, into, ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, RecursionError) as error:
        text = str(error).rstrip(".")
        found = re.findall(r"Failed to parse (\w+) field", text) or _AT.findall(text)
        field = ".".join([name for name in (path, *found) if name]) or "body"
        reason = text.rpartition("field: ")[2] or text
        raise invalid(field, reason[:300] or type(error).__name__) from None
    return into


def check_state(value: Any, *, path: str) -> None:
    """Raises InvalidParamsError for what names no state of tasks; protobuf's parser takes it for none."""
    if isinstance(value, str) and value not in TaskState.keys():  # noqa: SIM118 (an enum's, not a dict's)
        raise invalid(path, f"'{value[:50]}' is no state; one of {', '.join(TaskState.keys())}")
    if isinstance(value, int) and value not in TaskState.values():
        raise invalid(path, f"{value} is no state")


def json_object(value: Any, *, path: str) -> dict[str, Any]:
    """The value, if it is an object; an empty one for null. Raises InvalidParamsError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise invalid(path, "must be an object")
    return dict(value)


def media_types(values: Iterable[str], *, path: str) -> tuple[str, ...]:
    """The media types that a client takes. Raises InvalidParamsError."""
    found = tuple(values)
    if len(found) > MEDIA_TYPES_MAX or any(len(text) > MEDIA_TYPE_MAX_CHARS or "\x00" in text for text in found):
        limits = f"at most {MEDIA_TYPES_MAX} media types of {MEDIA_TYPE_MAX_CHARS} characters, none of them NUL"
        raise invalid(path, f"may hold {limits}")
    return found


def is_base64(text: str) -> bool:
    """Whether it is base64 of either alphabet. Padding may be left out; where there is some, it must be right."""
    return bool(_BASE64.fullmatch(text)) and len(text) % 4 != 1 and not (text.endswith("=") and len(text) % 4)


def uuid(text: str) -> UUID | None:
    """The id, if it is one."""
    try:
        return UUID(text)
    except ValueError:
        return None


def check_depth(data: Any) -> None:
    """Raises InvalidParamsError if this JSON is nested deeper than what we store could be read back."""
    if is_too_deep(data):
        raise invalid("body", f"may be nested at most {DEPTH_MAX} levels deep")


def whole(data: Any) -> Any:
    """The JSON with whole numbers as integers: a protobuf Struct makes every number a float."""
    if isinstance(data, dict):
        return {name: whole(value) for name, value in data.items()}
    if isinstance(data, list):
        return [whole(item) for item in data]
    return int(data) if isinstance(data, float) and data.is_integer() and abs(data) <= WHOLE_MAX else data


def has_nul(data: Any) -> bool:
    """Whether any text in this JSON holds a NUL character, which PostgreSQL's jsonb cannot keep."""
    if isinstance(data, str):
        return "\x00" in data
    if isinstance(data, Mapping):
        return any("\x00" in key or has_nul(value) for key, value in data.items())
    return isinstance(data, list) and any(has_nul(item) for item in data)


def _check_role(role: Any, path: str) -> None:
    if role is None:
        raise invalid(path, "is required")
    if role != "ROLE_USER" and not (type(role) is int and role == Role.ROLE_USER):
        raise invalid(path, "must be ROLE_USER")


def _check_parts(parts: Any, path: str) -> None:
    if not parts:
        raise invalid(path, "is required and must hold at least one part")
    if not isinstance(parts, list):
        raise invalid(path, "must be a list")
    if len(parts) > PARTS_MAX:
        raise invalid(path, f"may hold at most {PARTS_MAX} parts")
    for index, part in enumerate(parts):
        _check_part(part, f"{path}[{index}]")


def _check_part(part: Any, path: str) -> None:
    if not isinstance(part, Mapping):
        raise invalid(path, "must be an object")
    kinds = [kind for kind in ("text", "raw", "url", "data") if kind in part]
    if len(kinds) != 1:
        raise invalid(path, "must hold exactly one of text, raw, url, data")
    if kinds[0] != "data" and not isinstance(part[kinds[0]], str):
        raise invalid(f"{path}.{kinds[0]}", "must be a string")
    if kinds[0] == "url" and part["url"].lower().startswith(files.SCHEME):
        raise invalid(f"{path}.url", f"'{files.SCHEME}' is no scheme that leads anywhere")
    if kinds[0] == "raw" and not is_base64(part["raw"]):
        raise invalid(f"{path}.raw", "is not base64")
    for name in ("mediaType", "media_type", "filename"):
        if not isinstance(part.get(name, ""), str) or "\x00" in part.get(name, ""):
            raise invalid(f"{path}.{name}", "must be a string without NUL characters")


def _check_ids(parsed: Message, path: str) -> None:
    limits = {
        "messageId": (parsed.message_id, MESSAGE_ID_MAX_CHARS),
        "contextId": (parsed.context_id, CONTEXT_ID_MAX_CHARS),
    }
    if not parsed.message_id:
        raise invalid(f"{path}.messageId", "is required")
    for name, (text, limit) in limits.items():
        if len(text) > limit or "\x00" in text:
            raise invalid(f"{path}.{name}", f"must have at most {limit} characters, none of them NUL")
