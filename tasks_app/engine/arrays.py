"""Python lists as PostgreSQL's array literals.

psycopg adapts a list item by item, in Python: for the many short arrays of a statement that cost more than running it.
Shape: a flat list of None, bool, int, float, str, bytes or UUID; the statement casts it (``::uuid[]``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

#: A list with an item longer than this goes as psycopg sends it: binary, not as hexadecimal digits.
BYTES_MAX = 4096
_SPECIAL = re.compile(r'(["\\])')


def bound(value: Any) -> Any:
    """The parameter as it is best sent: lists of plain items as literals, all else as it is."""
    if type(value) is not list:
        return value
    try:
        return "{" + ",".join([_ITEMS[type(item)](item) for item in value]) + "}"
    except (KeyError, OverflowError):
        return value


def _text(value: str) -> str:
    if '"' not in value and "\\" not in value:
        return f'"{value}"'
    return '"' + _SPECIAL.sub(r"\\\1", value) + '"'


def _content(value: bytes) -> str:
    if len(value) > BYTES_MAX:
        raise OverflowError
    return '"\\\\x' + value.hex() + '"'


_ITEMS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "NULL",
    bool: str,
    int: str,
    float: repr,
    str: _text,
    bytes: _content,
    UUID: str,
}
