"""How deep JSON may be nested, so that what is stored can be read back: at the doors and in artifacts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Every object of free JSON takes three levels of protobuf, whose parsers stop at 100.
DEPTH_MAX = 32


def is_too_deep(data: Any) -> bool:
    """Whether objects and lists stand in one another on more than :data:`DEPTH_MAX` levels."""
    level = [data]
    for _ in range(DEPTH_MAX):
        level = [item for node in level for item in _items(node) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _items(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()
