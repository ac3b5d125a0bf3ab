"""A parsed DICOM object → :class:`Source`: one frame decoded at a time, in colour or in output units."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, convert_color_space
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import RLELossless

from workers.agents.imaging import codestream, facts
from workers.agents.imaging.dicom_object import DicomObject, looks_like_dicom, parse
from workers.agents.imaging.errors import failure, guarded
from workers.agents.imaging.model import MAX_FRAME_SAMPLES, MAX_MEASURED_FRAMES, Array, Source, Window

__all__ = ["MEDIA_TYPE", "looks_like_dicom", "open_dicom"]

MEDIA_TYPE = "application/dicom"
_MOST_ASPECT = 20.0
#: Most scans of one frame: a component may have one of its own, but progressive JPEG is not among DICOM's syntaxes.
_MOST_SCANS = 32
#: pydicom may go through all items of the pixel data for each frame: at most so many steps are made in all.
_MOST_STEPS = 20_000_000
_ITEM = b"\xfe\xff\x00\xe0"


def open_dicom(data: bytes) -> Source:
    """The image in a DICOM object, not decoded yet. Raises :class:`AgentError` with a code of ``errors.SENTENCES``."""
    obj = parse(data)
    ds, middle = obj.ds, obj.frame_count // 2
    obj.note("burned_in_annotation" if str(ds.get("BurnedInAnnotation", "")).strip() == "YES" else None)
    grey = obj.samples == 1 and facts.photometric(ds) != "PALETTE COLOR"
    return Source(
        media_type=MEDIA_TYPE,
        rows=int(ds.Rows),
        columns=int(ds.Columns),
        decode=partial(_decode, obj),
        frame_count=obj.frame_count,
        bits=_colour_bits(obj),
        modality=facts.modality(ds),
        unit=_unit(ds),
        technical=facts.technical(ds, transfer_syntax=obj.syntax, frame_count=obj.frame_count, frame_index=middle),
        notes=obj.notes,
        to_output=partial(_to_output, ds),
        to_voi=_voi(ds) if grey else None,
        windows=_windows(ds, middle) if grey else (),
        inverted=facts.photometric(ds) == "MONOCHROME1",
        aspect=_aspect(ds, middle),
        padding=_padding(ds),
        missing_px=obj.missing_px,
        most_frames=_most_frames(obj),
    )


def _decode(obj: DicomObject, frame_index: int) -> Array:
    """Stored values (rows, columns), or RGB (rows, columns, 3)."""
    with guarded("undecodable"):
        pixels, properties = _decode_frame(obj, frame_index)
        interpretation = str(properties["photometric_interpretation"])
        if interpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, obj.ds)
        elif interpretation in ("YBR_FULL", "YBR_FULL_422"):
            pixels = convert_color_space(pixels, interpretation, "RGB")
    return pixels


def _decode_frame(obj: DicomObject, frame_index: int) -> tuple[Array, dict[str, Any]]:
    decoder = get_decoder(obj.syntax)
    if not obj.syntax.is_encapsulated:
        return decoder.as_array(obj.ds, index=frame_index)
    options: dict[str, Any] = as_pixel_options(obj.ds)
    stream = get_frame(
        obj.pixel_bytes,
        frame_index,
        number_of_frames=obj.frame_count,
        extended_offsets=options.pop("extended_offsets", None),
    )
    _count_taken(obj, len(stream))
    if obj.syntax != RLELossless:
        stream = _checked(obj, stream)
    return decoder.as_array(encapsulate([stream]), index=0, **{**options, "number_of_frames": 1})


def _count_taken(obj: DicomObject, size_bytes: int) -> None:
    """Raises ``bad_header`` once the frames are larger than what holds them: offsets that overlap multiply a file."""
    obj.taken_bytes += size_bytes
    if obj.taken_bytes > len(obj.pixel_bytes):
        raise failure("bad_header")


def _checked(obj: DicomObject, stream: bytes) -> bytes:
    """The frame's codestream, mended if need be. Raises ``too_large`` if it declares or costs more than the bounds."""
    stream, note = codestream.mended(stream, rows=int(obj.ds.Rows), columns=int(obj.ds.Columns))
    obj.note(note)
    size = codestream.declared_size(stream)
    if size is not None and (size.samples > MAX_FRAME_SAMPLES or codestream.scan_count(stream) > _MOST_SCANS):
        raise failure("too_large")
    return stream


def _most_frames(obj: DicomObject) -> int:
    if not obj.syntax.is_encapsulated:
        return MAX_MEASURED_FRAMES
    return min(MAX_MEASURED_FRAMES, _MOST_STEPS // (obj.pixel_bytes.count(_ITEM) + 1))


def _to_output(ds: Dataset, values: Array, frame_index: int) -> Array:
    """Stored values → output units by the modality LUT or the frame's rescale (PS3.3 C.11.1), float64."""
    if "ModalityLUTSequence" in ds:
        with guarded("bad_header"):
            return np.asarray(apply_modality_lut(values, ds), dtype=np.float64)
    slope = facts.reals(ds, "RescaleSlope", frame_index)[:1] or [1.0]
    intercept = facts.reals(ds, "RescaleIntercept", frame_index)[:1] or [0.0]
    return np.asarray(values.astype(np.float64) * (slope[0] or 1.0) + intercept[0])


def _voi(ds: Dataset) -> Callable[[Array], Array] | None:
    """The file's VOI LUT as a map of a frame in output units to 0..1; None if it has none."""
    if not ds.get("VOILUTSequence"):
        return None

    def apply(frame: Array) -> Array:
        table_bits = int(ds.VOILUTSequence[0].LUTDescriptor[2])
        shown = apply_voi(frame.astype(np.int64), ds)
        return np.asarray(shown / float(2**table_bits - 1))

    return apply


def _windows(ds: Dataset, frame_index: int) -> tuple[Window, ...]:
    centers = facts.reals(ds, "WindowCenter", frame_index)
    widths = facts.reals(ds, "WindowWidth", frame_index)
    pairs = zip(centers, widths, strict=False)
    return tuple(Window(center=center, width=width) for center, width in pairs if width >= 1)


def _aspect(ds: Dataset, frame_index: int) -> float:
    """A pixel's height by its width; 1.0 where the file does not say, or says something absurd."""
    for tag in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        pair = facts.reals(ds, tag, frame_index)
        if len(pair) == 2 and min(pair) > 0:
            ratio = pair[0] / pair[1]
            return ratio if 1 / _MOST_ASPECT <= ratio <= _MOST_ASPECT else 1.0
    return 1.0


def _padding(ds: Dataset) -> tuple[float, float] | None:
    """The range of stored values that mean "no measurement" (PS3.3 C.7.5.1.1.2)."""
    first = facts.reals(ds, "PixelPaddingValue")
    last = facts.reals(ds, "PixelPaddingRangeLimit") or first
    return (min(first[0], last[0]), max(first[0], last[0])) if first else None


def _unit(ds: Dataset) -> str:
    """``HU`` for CT with a rescale and no other type named (PS3.3 C.11.1.1.2), else what kind of value it is."""
    rescaled = "RescaleSlope" in ds or "ModalityLUTSequence" in ds
    if rescaled and facts.modality(ds) == "CT" and str(ds.get("RescaleType", "HU")) == "HU":
        return "HU"
    return "rescaled value" if rescaled else "stored value"


def _colour_bits(obj: DicomObject) -> int:
    """Bits of a colour sample after decoding."""
    if facts.photometric(obj.ds) != "PALETTE COLOR":
        return facts.whole(obj.ds, "BitsStored") or obj.bits_allocated
    with guarded("bad_header"):
        return 16 if int(obj.ds.RedPaletteColorLookupTableDescriptor[2]) > 8 else 8
