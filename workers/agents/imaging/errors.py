"""Every way an image can fail, as a fixed sentence: what a client reads never quotes the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks_app.agents import AgentError

#: Packages whose exceptions are not about the file (a timeout, a cancellation, our own errors): they pass.
_MACHINERY = frozenset({"billiard", "celery", "workers", "tasks_app", "a2a_project"})

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
    "failed": "the image could not be examined",
}


def failure(code: str) -> AgentError:
    """The error for a code of :data:`SENTENCES`. Raise it ``from None``: inner exceptions may quote values."""
    return AgentError(SENTENCES[code], code=code)


@contextmanager
def guarded(code: str) -> Iterator[None]:
    """Turns whatever a library raises over a file into :func:`failure` of ``code``, and drops its text.

    Memory that ran out becomes ``too_large``, what a library has not implemented ``unsupported``. A panic of a decoder
    written in Rust is no ``Exception`` and is caught too; what the machinery around a handler raises is not.
    """
    try:
        yield
    except BaseException as error:
        if _passes(error):
            raise
        by_kind: dict[type[BaseException], str] = {MemoryError: "too_large", NotImplementedError: "unsupported"}
        raise failure(by_kind.get(type(error), code)) from None


def _passes(error: BaseException) -> bool:
    is_panic = type(error).__name__ == "PanicException"
    return type(error).__module__.partition(".")[0] in _MACHINERY or not (isinstance(error, Exception) or is_panic)


def in_part(error: AgentError, part_index: int) -> AgentError:
    """The same error, naming the part of the message it is about."""
    return AgentError(f"parts[{part_index}]: {error}", code=error.code)
