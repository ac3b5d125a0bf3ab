"""The plans of what a connection runs, as it really runs them: prepared, generic, with their rows and buffers."""

from __future__ import annotations

import json
from typing import Any

import psycopg

ON = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
SET auto_explain.log_format = json;
SET auto_explain.log_level = notice;
SET client_min_messages = notice
"""


class Plans:
    """While the block runs, gathers the plan of every statement that the connection ends."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._plans: list[dict[str, Any]] = []

    def __enter__(self) -> Plans:
        self._conn.add_notice_handler(self._hear)
        self._conn.execute(ON)
        self.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.remove_notice_handler(self._hear)
        self._conn.execute("SET auto_explain.log_min_duration = -1")

    def clear(self) -> None:
        self._plans.clear()

    @property
    def buffers(self) -> int:
        """Pages that the statements touched, in the cache or not."""
        return sum(_buffers(plan["Plan"]) for plan in self._plans)

    @property
    def text(self) -> str:
        """All of it, as indented JSON with the statements."""
        return "\n".join(json.dumps(plan, indent=1) for plan in self._plans)

    def _hear(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        head, _, plan = (diagnostic.message_primary or "").partition("plan:")
        if head.startswith("duration:"):
            self._plans.append(json.loads(plan))


def _buffers(root: dict[str, Any]) -> int:
    """A node counts what its children touch, but for CTEs that nobody reads: those run after the root has ended."""
    read = {node["CTE Name"] for node in _nodes(root) if node["Node Type"] == "CTE Scan"}
    unread = [
        node
        for node in root.get("Plans", [])
        if node.get("Subplan Name", "").startswith("CTE ") and node["Subplan Name"][4:] not in read
    ]
    return sum(node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0) for node in [root, *unread])


def _nodes(root: dict[str, Any]) -> list[dict[str, Any]]:
    return [root, *(node for child in root.get("Plans", []) for node in _nodes(child))]
