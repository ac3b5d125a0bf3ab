"""Request bodies: JSON, decoded by orjson; a body over the limit never gets here (see ``a2a_project/asgi.py``)."""

from __future__ import annotations

from typing import IO, Any

import orjson
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from tasks_app.a2a import parse
from tasks_app.batches import NotJSON
from tasks_app.nesting import DEPTH_MAX, is_too_deep

#: With what a line begins that says something of the batch itself.
HEAD = b'{"batch"'


class FastJSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        return _loaded(stream.read(), "the body")


class NDJSONParser(BaseParser):
    """A batch as lines: a task in each, and before them, if need be, ``{"batch": {…}}`` with its other fields."""

    media_type = "application/x-ndjson"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        lines = [line for line in stream.read().splitlines() if line.strip()]
        head: dict[str, Any] = {}
        if lines and lines[0].lstrip().startswith(HEAD):
            first = _loaded(lines.pop(0), "the first line")
            if first.keys() != {"batch"} or not isinstance(first["batch"], dict) or "tasks" in first["batch"]:
                raise ParseError('the first line must be {"batch": {…}} without tasks, or a task')
            head = first["batch"]
        return {**head, "tasks": [_item(line) for line in lines]}


def _item(line: bytes) -> Any:
    """What a line says; one that says nothing is told of as a task that is wrong."""
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return NotJSON(str(error), line)
    return NotJSON(f"nested deeper than {DEPTH_MAX} levels", line) if is_too_deep(data) else data


def _loaded(content: bytes, what: str) -> Any:
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ParseError(f"{what} is not JSON: {error}") from None
    parse.check_depth(data)
    return data
