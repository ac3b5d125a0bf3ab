"""What a media type looks like where it goes on as a header."""

from __future__ import annotations

import re

#: The most that the columns hold.
MAX_CHARS = 128

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'[ \t]*;[ \t]*{_NAME}=(?:{_NAME}|"[ !#-\[\]-~]*")'
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}(?:{_PARAMETER})*")


def is_media_type(text: str) -> bool:
    """Whether it is a type, a subtype and parameters (RFC 9110, section 8.3.1), without escapes, of 128 characters."""
    return len(text) <= MAX_CHARS and bool(_MEDIA_TYPE.fullmatch(text))
