"""Every way an image can fail, as a fixed sentence: what a client reads never quotes the file."""

from __future__ import annotations

from tasks_app.agents import AgentError

SENTENCES: dict[str, str] = {
    "no_input": "send at least one image as a raw part (DICOM, PNG or JPEG)",
    "unsupported_part": "this agent fetches nothing; send the image's bytes as a raw part instead of a URL",
    "empty": "the part is empty",
    "not_an_image": "the content is neither DICOM, PNG nor JPEG",
    "no_pixels": "the DICOM object carries no pixels",
    "bad_header": "the header that describes the pixels is damaged",
    "too_large": "the image is larger than this agent decodes",
    "truncated": "the pixel data ends too early",
    "unsupported": "the pixels are stored in a form this agent does not read",
    "undecodable": "the pixels cannot be decoded",
}


def failure(code: str) -> AgentError:
    """The error for a code of :data:`SENTENCES`. Raise it ``from None``: inner exceptions may quote values."""
    return AgentError(SENTENCES[code], code=code)


def in_part(error: AgentError, part_index: int) -> AgentError:
    """The same error, naming the part of the message it is about."""
    return AgentError(f"parts[{part_index}]: {error}", code=error.code)
