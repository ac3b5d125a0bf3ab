"""Request bodies: JSON, decoded by orjson; a body over the limit never gets here (see ``a2a_project/asgi.py``)."""

from __future__ import annotations

from typing import IO, Any

import orjson
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

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
