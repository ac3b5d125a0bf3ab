"""PNG and JPEG bytes → :class:`Source`, by Pillow. Metadata (EXIF, text chunks) is never read out."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from workers.agents.imaging import codestream
from workers.agents.imaging.errors import failure, guarded
from workers.agents.imaging.model import MAX_FRAME_BYTES, MAX_FRAME_SAMPLES, Array, Source

_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
#: How each of Pillow's modes is measured: as it is, or converted to this one.
_TARGETS = {"1": "L", "L": "L", "LA": "L", "I;16": "I;16", "I;16B": "I;16B", "I": "I"}
_ORIENTATION = 0x0112
_SIXTEEN_BITS = ("I;16", "I;16B", "I")
#: Most pixels passed over by all the scans of a JPEG: some seconds, where a progressive one could ask for days.
_MAX_SCANNED_PX = 10_000_000_000


def media_type(data: bytes) -> str | None:
    """``image/png`` or ``image/jpeg`` by the first bytes; None for anything else."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def open_raster(data: bytes) -> Source:
    """The picture, its header read and in bounds. Raises ``undecodable`` or ``too_large``."""
    kind = media_type(data) or ""
    picture = _open(data)
    columns, rows = picture.size
    if _is_turned(picture):
        columns, rows = rows, columns
    samples = max(Image.getmodebands(mode) for mode in (picture.mode, _target(picture)))
    if rows * columns * max(samples, 3) > MAX_FRAME_BYTES or rows * columns * samples > MAX_FRAME_SAMPLES:
        raise failure("too_large")
    if picture.format == "JPEG" and rows * columns * codestream.scan_count(data) > _MAX_SCANNED_PX:
        raise failure("too_large")
    return Source(
        media_type=kind,
        rows=rows,
        columns=columns,
        bits=16 if picture.mode in _SIXTEEN_BITS else 8,
        technical={"rows": rows, "columns": columns, "number_of_frames": 1},
        decode=lambda frame_index: _decode(data),
    )


def _open(data: bytes) -> Image.Image:
    with guarded("undecodable"):
        try:
            return Image.open(BytesIO(data), formats=("PNG", "JPEG"))
        except Image.DecompressionBombError:
            raise failure("too_large") from None


def _is_turned(picture: Image.Image) -> bool:
    """Whether EXIF asks for a quarter turn. JPEG only: a PNG may hold EXIF behind its pixels, still to be decoded."""
    with guarded("undecodable"):
        return picture.format == "JPEG" and picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)


def _target(picture: Image.Image) -> str:
    return _TARGETS.get(picture.mode, "RGB")


def _decode(data: bytes) -> Array:
    """Grey values (rows, columns), or RGB (rows, columns, 3); a JPEG upright, transparency left out."""
    picture = _open(data)
    with guarded("undecodable"):
        if picture.format == "JPEG":
            picture = ImageOps.exif_transpose(picture)
        target = _target(picture)
        return np.asarray(picture if picture.mode == target else picture.convert(target))
