"""What is computed from measurements. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def rate(times_s: Sequence[float], *, skip: int) -> float:
    """Ends per second from the first to the last, without the first ``skip``: the warm-up."""
    ordered = sorted(times_s)[skip:]
    return (len(ordered) - 1) / (ordered[-1] - ordered[0])


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def verdict(value: float, target: float, *, at_least: bool = False) -> str:
    """``met`` or ``MISSED``, for the last line."""
    return "met" if (value >= target if at_least else value <= target) else "MISSED"
