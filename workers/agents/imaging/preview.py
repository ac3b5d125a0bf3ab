"""Pixels → a small 8-bit PNG that shows what is in them: window, orientation of grey, aspect, size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from workers.agents.imaging.model import Array, Source, Window

#: A file's window is taken as it is if at most these shares of the foreground come out white or black...
_MOST_WHITE, _MOST_BLACK = 0.10, 0.35
#: ...and the grey levels spread at least this much (standard deviation of 0..255).
_LEAST_SPREAD = 32.0
#: A window that clips more is taken with shoulders if at least this share of the foreground lies in it.
_LEAST_INSIDE = 0.25
_SHOULDER_GREYS = 32.0
#: ...and is widened to this share of the whole range, so that noise is not all that shows.
_LEAST_SHOULDERED = 0.15
_LOW_PERCENT, _HIGH_PERCENT = 1.0, 99.0
_FOOTROOM = 0.1
#: A single value that fills more than this share of the image is background, not anatomy.
_BACKGROUND_SHARE = 0.10
#: Nothing is thinner than air (-1000 HU): what lies below is outside the field of view. Above the second there is body.
_LEAST_HU, _BODY_HU, _LEAST_BODY_SHARE = -1024.0, -500.0, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A PNG of ``width`` x ``height``; ``window`` is what made it, named by ``window_source``."""

    png: bytes
    width: int
    height: int
    window_source: str
    window: Window | None


def render(source: Source, pixels: Array, *, longest_px: int, window: Window | None = None) -> Preview:
    """The preview of one decoded frame: stored grey values (rows, columns), or RGB (rows, columns, 3).

    ``window``, in output units, overrules the file's. The longest side is at most ``longest_px``; nothing is enlarged,
    except the shorter side of pixels that are not square.
    """
    pixels = _thinned(pixels, longest_px)
    if pixels.ndim == 3:
        shown, origin, used = _colour_to_8_bit(pixels, source.bits), "colour", None
    else:
        values, valid = _output_values(source, pixels)
        shown, origin, used = _grey_to_8_bit(source, values, valid, window)
        shown = np.where(valid, 255 - shown if source.inverted else shown, 0).astype(np.uint8)
    picture = _resized(Image.fromarray(shown), aspect=source.aspect, longest_px=longest_px)
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return Preview(png=buffer.getvalue(), width=picture.width, height=picture.height, window_source=origin, window=used)


def _thinned(pixels: Array, longest_px: int) -> Array:
    """Every n-th row and column of a frame that is far larger than its preview, to bound memory."""
    step = max(1, max(pixels.shape[:2]) // (8 * longest_px))
    return pixels[::step, ::step]


def _output_values(source: Source, pixels: Array) -> tuple[Array, Array]:
    """Grey values in output units, and which of them are measurements (finite and no padding)."""
    values = source.to_output(pixels, source.preview_frame)
    if source.unit == "HU":
        values = np.maximum(values, _LEAST_HU)
    valid = np.isfinite(values)
    if source.padding is not None:
        low, high = source.padding
        valid &= (pixels < low) | (pixels > high)
    return np.where(valid, values, 0.0), valid if valid.any() else np.ones_like(valid)


def _grey_to_8_bit(
    source: Source, values: Array, valid: Array, window: Window | None
) -> tuple[Array, str, Window | None]:
    """8-bit grey, where its window came from, and the window."""
    if window is not None:
        return _through(values, window), "parameters", window
    foreground = _foreground(values, valid, is_hu=source.unit == "HU")
    robust = _robust_window(values[foreground if source.unit != "HU" else valid], values[valid])
    for shown, origin, candidate in _from_file(source, values, foreground, robust):
        if _shows(shown[foreground]):
            return shown, origin, candidate
    return _through(values, robust), "percentiles", robust


def _from_file(
    source: Source, values: Array, foreground: Array, robust: Window
) -> Iterator[tuple[Array, str, Window | None]]:
    """What the file itself proposes, best first: its VOI LUT, its windows (wide ones first), those with shoulders."""
    if source.to_voi is not None:
        with suppress(Exception):  # a damaged table: there is always the next way
            yield np.clip(source.to_voi(values) * 255.0, 0, 255).astype(np.uint8), "voi_lut", None
    windows = sorted(source.windows, key=lambda window: -window.width)
    for window in windows:
        yield _through(values, window), "file", window
    for window in windows:
        wide = Window(center=window.center, width=max(window.width, _LEAST_SHOULDERED * robust.width))
        if _share_inside(values[foreground], wide) >= _LEAST_INSIDE:
            yield _with_shoulders(values, wide, robust), "file_with_shoulders", wide


def _foreground(values: Array, valid: Array, *, is_hu: bool) -> Array:
    """What is not background: valid, and in CT not air, else not the one smallest value where that fills much."""
    if is_hu:
        body = valid & (values > _BODY_HU)
        return body if body.sum() > _LEAST_BODY_SHARE * valid.sum() else valid
    background = valid & (values == values[valid].min())
    rest = valid & ~background
    return rest if background.sum() > _BACKGROUND_SHARE * valid.sum() and rest.any() else valid


def _shows(shown: Array) -> bool:
    """Whether 8-bit grey of the foreground has contrast and is not largely clipped."""
    white, black = float(np.mean(shown == 255)), float(np.mean(shown == 0))
    return white <= _MOST_WHITE and black <= _MOST_BLACK and float(shown.std()) >= _LEAST_SPREAD


def _robust_window(foreground: Array, everything: Array) -> Window:
    """From the 1st to the 99th percentile of the foreground; from min to max where those are equal.

    Where there is a background, it begins a little lower: the darkest of the foreground must not merge with it.
    """
    low, high = np.percentile(foreground, (_LOW_PERCENT, _HIGH_PERCENT))
    if foreground.size < everything.size:
        low = max(float(everything.min()), low - _FOOTROOM * (high - low))
    if high <= low:
        low, high = everything.min(), everything.max()
    return Window(center=float((low + high) / 2), width=float(high - low))


def _through(values: Array, window: Window) -> Array:
    """Grey through a window, rounded to 0..255; the same middle grey everywhere for a window of no width."""
    if window.width <= 0:
        return np.full(values.shape, 128, dtype=np.uint8)
    scaled = (values - (window.center - window.width / 2)) / window.width
    return np.asarray(np.rint(np.clip(scaled, 0.0, 1.0) * 255.0), dtype=np.uint8)


def _share_inside(values: Array, window: Window) -> float:
    return float(np.mean(np.abs(values - window.center) <= window.width / 2))


def _with_shoulders(values: Array, window: Window, robust: Window) -> Array:
    """Grey through a window that keeps most of the greys, with what lies outside it compressed and not clipped.

    For windows made for one tissue: a brain window leaves a skull white, but not all of one white.
    """
    low, high = window.center - window.width / 2, window.center + window.width / 2
    ends = (min(low - 1, robust.center - robust.width / 2), max(high + 1, robust.center + robust.width / 2))
    greys = np.interp(values, (ends[0], low, high, ends[1]), (0.0, _SHOULDER_GREYS, 255.0 - _SHOULDER_GREYS, 255.0))
    return np.asarray(np.rint(greys), dtype=np.uint8)


def _colour_to_8_bit(pixels: Array, bits: int) -> Array:
    if bits == 8 and pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    scaled = pixels.astype(np.float64) * (255.0 / (2**bits - 1))
    return np.asarray(np.rint(np.clip(scaled, 0, 255)), dtype=np.uint8)


def _resized(picture: Image.Image, *, aspect: float, longest_px: int) -> Image.Image:
    """The picture with square pixels, its longest side at most ``longest_px``. ``aspect``: pixel height by width."""
    width = picture.width / min(1.0, aspect)
    height = picture.height * max(1.0, aspect)
    shrink = min(1.0, longest_px / max(width, height))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
