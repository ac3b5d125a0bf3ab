"""Intensity statistics and histograms: exact, from the counts of distinct values. Pure numpy.

Counting first makes many frames cost the memory of their distinct values, not of their pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.agents.imaging.model import Array

PERCENTS = (1, 5, 25, 50, 75, 95, 99)


class Tally:
    """Distinct values, ascending, shape (n,), float64, and how often each occurred, shape (n,), int64."""

    def __init__(self) -> None:
        self.values: Array = np.empty(0, dtype=np.float64)
        self.counts: Array = np.empty(0, dtype=np.int64)

    def add(self, values: Array, counts: Array) -> None:
        """Counts values (any order, repeats allowed) ``counts`` times each; what is not finite is left out."""
        finite = np.isfinite(values)
        together = np.concatenate([self.values, values[finite].astype(np.float64)])
        weights = np.concatenate([self.counts, counts[finite].astype(np.int64)])
        self.values, place = np.unique(together, return_inverse=True)
        self.counts = np.zeros(len(self.values), dtype=np.int64)
        np.add.at(self.counts, place.reshape(-1), weights)

    @property
    def total(self) -> int:
        """How many pixels were counted."""
        return int(self.counts.sum())


def measure(tally: Tally) -> dict[str, Any]:
    """``count, min, max, mean, std`` (population) and ``percentiles`` in the tally's units; count 0 alone if empty."""
    if not tally.total:
        return {"count": 0}
    mean = float(np.average(tally.values, weights=tally.counts))
    variance = float(np.average((tally.values - mean) ** 2, weights=tally.counts))
    return {
        "count": tally.total,
        "min": float(tally.values[0]),
        "max": float(tally.values[-1]),
        "mean": mean,
        "std": variance**0.5,
        "percentiles": {str(p): percentile(tally, p) for p in PERCENTS},
    }


def percentile(tally: Tally, percent: float) -> float:
    """The percentile by linear interpolation, equal to ``numpy.percentile`` over all pixels; not of an empty tally."""
    position = percent / 100 * (tally.total - 1)
    rank = int(np.floor(position))
    reached = np.cumsum(tally.counts)
    below, above = (
        float(tally.values[np.searchsorted(reached, r, side="right")]) for r in (rank, min(rank + 1, tally.total - 1))
    )
    return below + (above - below) * (position - rank)


def histogram(tally: Tally, bins: int) -> dict[str, Any]:
    """``counts`` (bins,) and ``edges`` (bins + 1,) of equal bins from min to max; both empty for an empty tally."""
    if not tally.total:
        return {"bins": bins, "counts": [], "edges": []}
    counts, edges = np.histogram(tally.values, bins=bins, weights=tally.counts)
    return {"bins": bins, "counts": [round(c) for c in counts.tolist()], "edges": [float(e) for e in edges]}


def distinct(pixels: Array) -> tuple[Array, Array]:
    """The distinct values of an array of any shape, in its own type, and their counts."""
    values, counts = np.unique(pixels.reshape(-1), return_counts=True)
    return values, counts


def luma_milli(rgb: Array) -> Array:
    """Luminance of RGB (rows, columns, 3), times 1000, as whole numbers (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B)."""
    kind = np.uint32 if rgb.dtype.itemsize <= 2 else np.uint64
    wide: Array = rgb.astype(kind)
    return np.asarray(wide @ np.array([299, 587, 114], dtype=kind))
