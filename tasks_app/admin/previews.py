"""Artifacts for looking at: an image, JSON, text, or a link; read from the database no further than is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import BinaryField, Func, IntegerField, QuerySet, Value
from django.db.models.functions import Coalesce
from django.urls import reverse

from artifacts_app import blobs
from artifacts_app.images import pixels
from artifacts_app.models import Artifact, ArtifactChunk
from tasks_app.admin import looks

#: What a browser draws without running anything of it. No SVG and no HTML: those carry scripts.
INLINE_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
#: As much of a text or of JSON is read, and as many characters of it shown.
READ_MAX_BYTES = 64 * 1024
SHOWN_MAX_CHARS = 20_000
IMAGE_MAX_BYTES = 16 * 1024 * 1024
IMAGE_MAX_PIXELS = 50_000_000
PARTS_MAX = 20
_NUMBERS = re.compile(r"\[\n\s*(-?[\d.eE+-]+(?:,\n\s*-?[\d.eE+-]+)*)\n\s*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One part of an artifact; ``kind`` is image, json, text or file. ``url`` leads to its bytes."""

    kind: str
    media_type: str
    filename: str
    size: str
    url: str
    text: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An artifact with what is to be seen of it; ``sha256`` is empty until it is whole."""

    artifact: Artifact
    size: str
    sha256: str
    parts: list[Preview] = field(default_factory=list)
    hidden_parts: int = 0


def shown(artifacts: Sequence[Artifact]) -> list[Shown]:
    """The artifacts, in the same order, each with the previews of its parts."""
    found = {item.id: _head(item) for item in artifacts}
    parts: dict[UUID, list[ArtifactChunk]] = {}
    for part in _chunks(artifacts):
        parts.setdefault(part.artifact_id, []).append(part)
    return [_with_parts(head, parts.get(head.artifact.id, [])) for head in found.values()]


def base_type(media_type: str) -> str:
    """A media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def pretty(value: Any) -> str:
    """JSON for reading: indented, but a list of numbers in one line."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _NUMBERS.sub(lambda match: "[" + re.sub(r",\n\s*", ", ", match[1]) + "]", text)


def bounded(text: str) -> tuple[str, bool]:
    """As much of a text as is shown, and whether something is left out."""
    return text[:SHOWN_MAX_CHARS], len(text) > SHOWN_MAX_CHARS


def _head(artifact: Artifact) -> Shown:
    return Shown(artifact=artifact, size=looks.size(artifact.size_bytes), sha256=bytes(artifact.sha256 or b"").hex())


def _with_parts(head: Shown, chunks: Sequence[ArtifactChunk]) -> Shown:
    return Shown(
        artifact=head.artifact,
        size=head.size,
        sha256=head.sha256,
        parts=[_preview(chunk) for chunk in chunks[:PARTS_MAX]],
        hidden_parts=max(len(chunks) - PARTS_MAX, 0),
    )


def _chunks(artifacts: Iterable[Artifact]) -> QuerySet[ArtifactChunk]:
    artifact_list = list(artifacts)
    return (
        ArtifactChunk.objects.current()
        .filter(
            task_id__in={item.task_id for item in artifact_list},
            artifact_id__in=[item.id for item in artifact_list],
        )
        .select_related("blob")
        .defer("content")
        .annotate(
            length=Coalesce("size_bytes", Func("content", function="octet_length", output_field=IntegerField())),
            start=Func("content", Value(1), Value(READ_MAX_BYTES), function="substr", output_field=BinaryField()),
        )
        .order_by("generation", "position")
    )


def _preview(chunk: ArtifactChunk) -> Preview:
    size_bytes: int = chunk.length  # type: ignore[attr-defined]  # annotated by _chunks
    kind, text, cut = _content(chunk, size_bytes)
    return Preview(
        kind=kind,
        media_type=chunk.media_type,
        filename=chunk.filename,
        size=looks.size(size_bytes),
        url=reverse("admin:artifacts_app_artifact_content", args=[chunk.artifact_id, chunk.position]),
        text=text,
        cut=cut,
    )


def _content(chunk: ArtifactChunk, size_bytes: int) -> tuple[str, str, bool]:
    """(kind, text, whether it is cut) of a part."""
    media_type = base_type(chunk.media_type)
    try:
        start = _start(chunk)
    except OSError as error:
        return "text", f"(it cannot be read: {error})", False
    if chunk.kind == ArtifactChunk.Kind.URL:
        return "text", *_cut(start.decode(errors="replace"), whole=size_bytes <= len(start))
    if media_type in INLINE_IMAGES:
        # One whose size is not to be seen, or is vast, would be drawn by the operator's browser.
        drawn = size_bytes <= IMAGE_MAX_BYTES and 0 < (pixels(start) or 0) <= IMAGE_MAX_PIXELS
        return ("image" if drawn else "file"), "", False
    whole = size_bytes <= len(start)
    if chunk.kind == ArtifactChunk.Kind.DATA or media_type == "application/json" or media_type.endswith("+json"):
        text = _pretty_or_plain(start, whole=whole)
        return "json", *_cut(text, whole=whole)
    if chunk.kind == ArtifactChunk.Kind.TEXT or media_type.startswith("text/"):
        return "text", *_cut(start.decode(errors="replace"), whole=whole)
    return "file", "", False


def _start(chunk: ArtifactChunk) -> bytes:
    """As much of a part as is shown. Raises OSError."""
    if chunk.blob is None:
        return bytes(chunk.start)  # type: ignore[attr-defined]  # annotated by _chunks
    stored = blobs.of(chunk.blob)
    return b"".join(blobs.read(stored, range(min(stored.size_bytes, READ_MAX_BYTES))))


def _pretty_or_plain(content: bytes, *, whole: bool) -> str:
    text = content.decode(errors="replace")
    try:
        return pretty(json.loads(text)) if whole else text
    except (ValueError, RecursionError):
        return text


def _cut(text: str, *, whole: bool) -> tuple[str, bool]:
    shown_text, cut = bounded(text)
    return shown_text, cut or not whole
