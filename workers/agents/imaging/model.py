"""What reading an image gives: facts that may be published, and how to get at its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Most samples (rows x columns x channels) and bytes of one decoded frame; checked before decoding.
MAX_FRAME_SAMPLES = 100_000_000
MAX_FRAME_BYTES = 256 * 1024 * 1024
#: Most samples measured over all frames; beyond it frames are taken at even distances.
MAX_MEASURED_SAMPLES = 200_000_000
MAX_MEASURED_FRAMES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A range of intensities shown from black to white: DICOM PS3.3 C.11.2.1.2, in the image's output units."""

    center: float
    width: float


def _as_stored(values: Array, frame_index: int) -> Array:
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An image whose header was read and found in bounds, and whose pixels are not decoded yet.

    ``decode(frame_index)`` gives stored values, (rows, columns), or RGB, (rows, columns, 3). ``to_output(values,
    frame_index)`` maps stored grey values to output units (the modality LUT). ``to_voi`` maps a frame in output units
    to 0..1 by the file's VOI LUT. ``aspect`` is a pixel's height by its width. ``notes`` may grow while
    frames are decoded. ``padding`` is the range of stored
    values that are no measurement. ``missing_px`` is how many pixels at the end of the last frame were filled in.
    ``most_frames`` is how many frames are worth reaching for.
    """

    media_type: str
    rows: int
    columns: int
    decode: Callable[[int], Array]
    frame_count: int = 1
    bits: int = 8
    modality: str | None = None
    unit: str = "stored value"
    technical: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    to_output: Callable[[Array, int], Array] = _as_stored
    to_voi: Callable[[Array], Array] | None = None
    windows: tuple[Window, ...] = ()
    inverted: bool = False
    aspect: float = 1.0
    padding: tuple[float, float] | None = None
    missing_px: int = 0
    most_frames: int = MAX_MEASURED_FRAMES

    @property
    def preview_frame(self) -> int:
        """The middle frame."""
        return self.frame_count // 2

    def measured_frames(self, samples_per_frame: int) -> list[int]:
        """Indices of the frames to measure: all, or evenly spaced ones within the bounds; always the middle one."""
        most = max(1, min(self.most_frames, MAX_MEASURED_SAMPLES // max(1, samples_per_frame)))
        if self.frame_count <= most:
            return list(range(self.frame_count))
        spread = np.linspace(0, self.frame_count - 1, most).astype(int)
        return sorted({self.preview_frame, *map(int, spread[: most - 1])})

    def is_filled(self, frame_index: int) -> bool:
        """Whether pixels at the end of this frame were missing in the file."""
        return self.missing_px > 0 and frame_index == self.frame_count - 1
