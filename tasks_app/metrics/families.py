"""What is counted, under which labels, and in which column of the board each number stands. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, product

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric

from tasks_app.models.attempt import Outcome
from tasks_app.status import Lane, Priority, TaskStatus

#: The label of every agent that is not registered in the process that counts: labels stay bounded.
OTHER = "other"
TASK_LABELS = ("agent", "priority", "lane")
ATTEMPT_LABELS = ("agent", "lane", "outcome")

#: From 10 ms to 12 hours.
DURATION_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600, 7200, 14_400, 43_200)
#: From 5 ms to 12 hours: an idle system starts a task within milliseconds.
QUEUE_S = (0.005, *DURATION_S)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: a counter, or with ``buckets`` (upper bounds, seconds) a histogram."""

    name: str
    help: str
    labels: tuple[str, ...] = TASK_LABELS
    buckets: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Columns per set of labels: one, or a histogram's buckets, the last without a bound, and the sum."""
        return len(self.buckets) + 2 if self.buckets else 1


CREATED = Family("tasks_created", "Tasks accepted; a repeat of a request is not counted again.")
COMPLETED = Family("tasks_completed", "Tasks that completed.")
FAILED = Family("tasks_failed", "Tasks that failed: by themselves, by a timeout, or with their attempts spent.")
CANCELLED = Family("tasks_cancelled", "Tasks that were cancelled.")
REJECTED = Family("tasks_rejected", "Tasks that their agent rejected.")
DURATION = Family("task_duration_seconds", "From the first start of a task to its end.", buckets=DURATION_S)
QUEUED = Family("task_queue_seconds", "From when a task may run to its first start.", buckets=QUEUE_S)
ATTEMPTS = Family("task_attempts", "Attempts that ended, by how.", labels=ATTEMPT_LABELS)

#: The counter of each terminal state.
ENDS = {
    TaskStatus.COMPLETED: COMPLETED,
    TaskStatus.FAILED: FAILED,
    TaskStatus.CANCELLED: CANCELLED,
    TaskStatus.REJECTED: REJECTED,
}
FAMILIES = (CREATED, *ENDS.values(), DURATION, QUEUED, ATTEMPTS)

_PRIORITIES = [priority.label for priority in Priority]
_LANES = {lane.value: index for index, lane in enumerate(Lane)}
_OUTCOMES = {outcome.value: index for index, outcome in enumerate(Outcome)}


class Columns:
    """Where the numbers of these agents stand. Two processes with the same agents have the same columns."""

    def __init__(self, agents: Iterable[str]) -> None:
        names = [*sorted(agents), OTHER]
        self._agents = {name: index for index, name in enumerate(names)}
        self._other = self._agents[OTHER]
        self._keys: dict[tuple[str, ...], list[tuple[str, ...]]] = {
            TASK_LABELS: list(product(names, _PRIORITIES, _LANES)),
            ATTEMPT_LABELS: list(product(names, _LANES, _OUTCOMES)),
        }
        sizes = [family.width * len(self._keys[family.labels]) for family in FAMILIES]
        ends = list(accumulate(sizes))
        self.count = ends[-1]
        self._starts = {family.name: end - size for family, end, size in zip(FAMILIES, ends, sizes, strict=True)}

    def of_task(self, family: Family, agent: str, priority: int, lane: str) -> int:
        """The first column of a family for a task's labels."""
        group = self._agents.get(agent, self._other) * len(_PRIORITIES) + priority
        return self._starts[family.name] + (group * len(_LANES) + _LANES[lane]) * family.width

    def of_attempt(self, agent: str, lane: str, outcome: str) -> int:
        group = self._agents.get(agent, self._other) * len(_LANES) + _LANES[lane]
        return self._starts[ATTEMPTS.name] + group * len(_OUTCOMES) + _OUTCOMES[outcome]

    def rendered(self, totals: list[float]) -> Iterator[Metric]:
        """The families with what is not zero in them, as the Prometheus client knows them."""
        for family in FAMILIES:
            start, width = self._starts[family.name], family.width
            metric = _metric(family)
            for index, labels in enumerate(self._keys[family.labels]):
                numbers = totals[start + index * width : start + (index + 1) * width]
                if any(numbers):
                    _add(metric, family, labels, numbers)
            yield metric


def bucket(family: Family, value: float) -> int:
    """Which of a histogram's buckets a value falls into."""
    return bisect_left(family.buckets, value)


def _metric(family: Family) -> Metric:
    kind = HistogramMetricFamily if family.buckets else CounterMetricFamily
    return kind(family.name, family.help, labels=family.labels)


def _add(metric: Metric, family: Family, labels: tuple[str, ...], numbers: list[float]) -> None:
    if not family.buckets:
        metric.add_metric(labels, numbers[0])  # type: ignore[attr-defined]
        return
    bounds = [*(str(float(bound)) for bound in family.buckets), "+Inf"]
    cumulated = list(zip(bounds, accumulate(numbers[:-1]), strict=True))
    metric.add_metric(labels, cumulated, numbers[-1])  # type: ignore[attr-defined]
