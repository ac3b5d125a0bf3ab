"""What became of push notifications. Counted where they are sent, in worker-system: one process, so plain counters."""

from __future__ import annotations

from prometheus_client import Counter

#: One for each request: ``delivered``, ``failed`` (it is tried again), or ``dead`` (the last failure of its config).
deliveries = Counter("push_deliveries", "Requests that carried a push notification, by what came of them.", ["outcome"])
