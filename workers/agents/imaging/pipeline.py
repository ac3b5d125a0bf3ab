"""One image, four steps: read, decode, measure, render."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workers.agents.imaging.errors import guarded
from workers.agents.imaging.model import Array, Source, Window
from workers.agents.imaging.preview import Preview, render
from workers.agents.imaging.quiet import quiet
from workers.agents.imaging.reading import open_image
from workers.agents.imaging.statistics import Tally, distinct, histogram, luma_milli, measure

DEFAULT_BINS = 64
DEFAULT_PREVIEW_PX = 512
CHANNELS = ("red", "green", "blue")
Report = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a client may ask for; ``window`` is in output units."""

    histogram_bins: int = DEFAULT_BINS
    preview_px: int = DEFAULT_PREVIEW_PX
    window: Window | None = None

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Options:
        """From an agent's parameters, already checked against its schema."""
        window = None
        if "window_width" in parameters:
            window = Window(center=float(parameters["window_center"]), width=float(parameters["window_width"]))
        return cls(
            histogram_bins=int(parameters.get("histogram_bins", DEFAULT_BINS)),
            preview_px=int(parameters.get("preview_px", DEFAULT_PREVIEW_PX)),
            window=window,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is published of one image: ``report`` is JSON, ``png`` its preview."""

    report: dict[str, Any]
    png: bytes


@dataclass(slots=True)
class _Measured:
    """Tallies over the measured frames, and the frame to show."""

    grey: Tally
    colours: tuple[Tally, ...]
    shown: Array
    frame_count: int
    padding_px: int


def examine(data: bytes, options: Options, report: Report) -> Finding:
    """Everything published of one image. ``report`` is called with fractions that rise from 0 to 1.

    Raises :class:`tasks_app.agents.AgentError` with a code of ``errors.SENTENCES``.
    """
    with quiet(), guarded("failed"):
        report(0.0, "reading")
        source = open_image(data)
        measured = _decode_and_count(source, lambda done: report(0.1 + 0.6 * done, "decoding"))
        report(0.7, "measuring")
        facts = _describe(source, measured, options)
        report(0.8, "rendering")
        preview = render(source, measured.shown, longest_px=options.preview_px, window=options.window)
    report(1.0, "rendered")
    facts |= {"size_bytes": len(data), "preview": _describe_preview(source, preview)}
    return Finding(report=facts, png=preview.png)


def _decode_and_count(source: Source, report: Callable[[float], None]) -> _Measured:
    """Decodes the frames one after another, so that only the middle one stays in memory."""
    report(0.0)
    shown = source.decode(source.preview_frame)
    frames = source.measured_frames(shown.size)
    colours = tuple(Tally() for _ in CHANNELS) if shown.ndim == 3 else ()
    measured = _Measured(grey=Tally(), colours=colours, shown=shown, frame_count=len(frames), padding_px=0)
    for done, index in enumerate(frames, start=1):
        pixels = shown if index == source.preview_frame else source.decode(index)
        if pixels.ndim == 3:
            _count_colour(pixels, measured)
        else:
            _count_grey(source, pixels, index, measured)
        report(done / len(frames))
    return measured


def _count_grey(source: Source, pixels: Array, frame_index: int, measured: _Measured) -> None:
    if source.is_filled(frame_index):
        pixels = pixels.reshape(-1)[: -source.missing_px]
    values, counts = distinct(pixels)
    if source.padding is not None:
        low, high = source.padding
        padded = (values >= low) & (values <= high)
        measured.padding_px += int(counts[padded].sum())
        values, counts = values[~padded], counts[~padded]
    measured.grey.add(source.to_output(values, frame_index), counts)


def _count_colour(pixels: Array, measured: _Measured) -> None:
    values, counts = distinct(luma_milli(pixels))
    measured.grey.add(values / 1000.0, counts)
    for channel, tally in enumerate(measured.colours):
        tally.add(*distinct(pixels[..., channel]))


def _describe(source: Source, measured: _Measured, options: Options) -> dict[str, Any]:
    intensity = measure(measured.grey) | {"unit": "luminance" if measured.colours else source.unit}
    if measured.padding_px:
        intensity["padding_px"] = measured.padding_px
    facts: dict[str, Any] = {
        "media_type": source.media_type,
        "modality": source.modality,
        "rows": source.rows,
        "columns": source.columns,
        "frames": source.frame_count,
        "frames_measured": measured.frame_count,
        "technical": source.technical,
        "intensity": intensity,
        "histogram": histogram(measured.grey, options.histogram_bins),
    }
    if measured.colours:
        facts["channels"] = {name: measure(tally) for name, tally in zip(CHANNELS, measured.colours, strict=True)}
    if source.notes:
        facts["notes"] = list(source.notes)
    return facts


def _describe_preview(source: Source, preview: Preview) -> dict[str, Any]:
    window = preview.window
    return {
        "width": preview.width,
        "height": preview.height,
        "frame_index": source.preview_frame,
        "window_source": preview.window_source,
        "window": {"center": window.center, "width": window.width} if window else None,
    }
