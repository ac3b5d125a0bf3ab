"""DICOM bytes → a parsed object whose header is in bounds. Decodes nothing, and quotes nothing of the file."""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from workers.agents.imaging import facts
from workers.agents.imaging.errors import failure, guarded
from workers.agents.imaging.model import MAX_FRAME_BYTES, MAX_FRAME_SAMPLES

_PIXEL_TAGS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
_MAX_INFLATED_BYTES = 2 * MAX_FRAME_BYTES
_STEP_BYTES = 64 * 1024
#: Native grey pixel data that lacks at most this share of its bytes is read, with the rest filled in.
_MAX_MISSING = 0.05


@dataclass(slots=True)
class DicomObject:
    """A parsed object; ``notes`` collects what was repaired, ``missing_px`` what was filled in at the very end.

    ``taken_bytes`` counts what of the pixel data was taken out to be decoded.
    """

    ds: Dataset
    syntax: UID
    frame_count: int = 1
    missing_px: int = 0
    taken_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, code: str | None) -> None:
        """Remembers a repair once."""
        if code and code not in self.notes:
            self.notes.append(code)

    @property
    def pixel_tag(self) -> str:
        """Which of the three pixel elements there is; empty if none."""
        return next((tag for tag in _PIXEL_TAGS if tag in self.ds), "")

    @property
    def pixel_bytes(self) -> bytes:
        """The pixel element's value, still encoded."""
        return bytes(self.ds[self.pixel_tag].value or b"") if self.pixel_tag else b""

    @property
    def samples(self) -> int:
        """Samples per pixel: 1 unless the header says otherwise."""
        return facts.whole(self.ds, "SamplesPerPixel") or 1

    @property
    def bits_allocated(self) -> int:
        """Bits of one stored sample; 0 where the header does not say."""
        return facts.whole(self.ds, "BitsAllocated") or 0


def looks_like_dicom(data: bytes) -> bool:
    """Whether the bytes have DICOM's preamble, or start with an element of group 2 or 8 after stray white space."""
    return _has_preamble(data) or data.lstrip()[:2] in _FIRST_GROUPS


def parse(data: bytes) -> DicomObject:
    """The object in these bytes, with pixels that are described, in bounds and as long as the header says.

    Raises :class:`tasks_app.agents.AgentError` with a code of ``errors.SENTENCES``.
    """
    obj = _parse(data)
    _require_pixels(obj)
    _check_bounds(obj)
    _count_frames(obj)
    if not obj.syntax.is_encapsulated:
        _fill_native(obj)
    return obj


def _has_preamble(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def _parse(data: bytes) -> DicomObject:
    framed = _has_preamble(data)
    with guarded("undecodable" if framed else "not_an_image"):
        ds = dcmread(_Bounded(data if framed else data.lstrip()), force=not framed)
        meaningful = framed or any(tag in ds for tag in ("SOPClassUID", "Modality", "Rows"))
        syntax = ds.file_meta.get("TransferSyntaxUID")
    if not meaningful:
        raise failure("not_an_image")
    obj = DicomObject(ds=ds, syntax=UID(syntax or _guessed_syntax(ds)))
    obj.note(None if syntax else "transfer_syntax_guessed")
    return obj


def _guessed_syntax(ds: Dataset) -> str:
    implicit, little = ds.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


class _Bounded(BytesIO):
    """The bytes of a DICOM object. pydicom reads all the rest at once only to inflate it whole: if that is in bounds.

    Looked at there and not in the header, so that no odd header hides it: a missing preamble, a long or absent group
    length, an element in front.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if size is None or size < 0:
            _check_inflated(found)
        return found


def _check_inflated(deflated: bytes) -> None:
    """Raises ``too_large`` for what inflates to more than the bounds, in the memory of one step."""
    inflater, total_bytes = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with suppress(zlib.error):  # pydicom comes upon it in its turn
        for start in range(0, len(deflated), _STEP_BYTES):
            rest = deflated[start : start + _STEP_BYTES]
            while rest and not inflater.eof:
                total_bytes += len(inflater.decompress(rest, _STEP_BYTES))
                if total_bytes > _MAX_INFLATED_BYTES:
                    raise failure("too_large")
                rest = inflater.unconsumed_tail


def _require_pixels(obj: DicomObject) -> None:
    with guarded("undecodable"):
        present = bool(obj.pixel_bytes)
    if not present or "Rows" not in obj.ds or "Columns" not in obj.ds:
        raise failure("no_pixels")


def _check_bounds(obj: DicomObject) -> None:
    if facts.syntax_name(obj.syntax) == "unknown":
        raise failure("unsupported")
    rows, columns = (facts.whole(obj.ds, tag) or 0 for tag in ("Rows", "Columns"))
    if min(rows, columns) < 1 or obj.samples not in (1, 3) or obj.bits_allocated not in (1, 8, 16, 32, 64):
        raise failure("bad_header")
    is_palette = facts.photometric(obj.ds) == "PALETTE COLOR"  # becomes RGB, of up to 16 bits
    total = rows * columns * (3 if is_palette else obj.samples)
    bits = max(16 if is_palette else 8, obj.bits_allocated)
    if total > MAX_FRAME_SAMPLES or total * bits // 8 > MAX_FRAME_BYTES:
        raise failure("too_large")


def _count_frames(obj: DicomObject) -> None:
    """Sets the number of frames; where the tag is damaged, from the length of native pixel data."""
    declared = obj.ds.get("NumberOfFrames")
    count = facts.whole(obj.ds, "NumberOfFrames")
    if count is None and declared not in (None, ""):
        if obj.syntax.is_encapsulated:
            raise failure("bad_header")
        obj.ds.NumberOfFrames = 1
        count = len(obj.pixel_bytes) // _expected_bytes(obj)
        obj.note("frame_count_from_length")
    obj.frame_count = max(1, count or 1)
    obj.ds.NumberOfFrames = obj.frame_count


def _fill_native(obj: DicomObject) -> None:
    """Repeats the last whole pixel where native grey pixel data ends a little early; refuses what lacks more."""
    expected_bytes = _expected_bytes(obj)
    data, step = obj.pixel_bytes, obj.bits_allocated // 8
    missing_bytes = expected_bytes - len(data)
    if missing_bytes <= 0:
        return
    if obj.samples != 1 or not step or missing_bytes > _MAX_MISSING * expected_bytes / obj.frame_count:
        raise failure("truncated")
    complete = data[: len(data) // step * step]
    obj.missing_px = (expected_bytes - len(complete)) // step
    obj.ds[obj.pixel_tag].value = complete + complete[-step:] * obj.missing_px
    obj.note("missing_pixels_filled")


def _expected_bytes(obj: DicomObject) -> int:
    with guarded("bad_header"):
        return max(1, get_expected_length(obj.ds))
