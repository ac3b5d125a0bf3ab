"""Metrics for Prometheus: what this process made true, counted where an engine's verb returned success.

Every process counts for itself, so the sum over all scrape targets is what happened. Prefork children and web workers
that share a port add to one board of shared memory (``board``). Gauges are the active dispatcher's alone (``gauges``).
What there is, and who exports it: ``docs/metrics.md``.
"""

from tasks_app.metrics.gauges import dispatching
from tasks_app.metrics.hooks import cancelled, claimed, created, finished, moved
from tasks_app.metrics.tally import become_child, share_by_file, share_with_children

__all__ = [
    "become_child",
    "cancelled",
    "claimed",
    "created",
    "dispatching",
    "finished",
    "moved",
    "share_by_file",
    "share_with_children",
]
