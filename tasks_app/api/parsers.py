"""Request bodies: JSON, decoded by orjson; a body over the limit never gets here (see ``a2a_project/asgi.py``)."""

from __future__ import annotations

from typing import IO, Any

import orjson
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from tasks_app import batches
from tasks_app.a2a import parse


class FastJSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            data = orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise ParseError(f"the body is not JSON: {error}") from None
        parse.check_depth(data)
        return data


class NDJSONParser(BaseParser):
    """A batch as lines, see :func:`tasks_app.batches.lines`."""

    media_type = "application/x-ndjson"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        head, lines = batches.lines(stream)
        return {**head, "tasks": [batches.item(line) for line in lines]}
