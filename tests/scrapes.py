"""What Prometheus would see: the numbers of one target, and of several together."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

#: A sample's name and its labels in order of their names.
Series = tuple[str, tuple[tuple[str, str], ...]]


def parsed(text: str) -> dict[Series, float]:
    """Every sample of an exposition."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(target: str) -> dict[Series, float]:
    """The samples of a target, ``host:port``. Raises OSError where nobody answers."""
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
        return parsed(answer.read().decode())


def by_labels(scrapes: Iterable[dict[Series, float]], name: str, *labels: str) -> dict[tuple[str, ...], int]:
    """The sum over the targets of one name, by the values of these labels; what is 0 is left out."""
    total: Counter[tuple[str, ...]] = Counter()
    for scrape in scrapes:
        for (sample, pairs), value in scrape.items():
            if sample == name:
                total[tuple(dict(pairs)[label] for label in labels)] += int(value)
    return {key: value for key, value in total.items() if value}
