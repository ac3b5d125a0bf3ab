"""What the benchmarks compute from what they measure; that they run is for ``make bench``."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import BENCHMARKS, _chosen
from benchmarks.figures import percentile, rate, verdict
from benchmarks.resources import _peak
from benchmarks.scale.plans import _buffers


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 99) == 7


def test_a_rate_leaves_the_warm_up_out_whatever_the_order() -> None:
    assert rate([0.0, 12.0, 10.0, 10.5, 11.0, 11.5], skip=1) == pytest.approx(2.0)


def test_a_target_that_is_just_reached_is_met() -> None:
    assert verdict(1.4, 1.4) == verdict(0.45, 0.45, at_least=True) == "met"
    assert verdict(1.41, 1.4) == verdict(0.44, 0.45, at_least=True) == "MISSED"


def test_tasks_that_follow_one_another_do_not_count_as_running_at_once() -> None:
    assert _peak([(0.0, 1.0, 1024), (1.0, 2.0, 1024), (1.5, 3.0, 50)]) == 1074


def test_the_buffers_of_a_cte_that_nobody_reads_count_and_those_of_one_that_is_read_count_once() -> None:
    def cte(name: str, hit: int) -> dict[str, object]:
        return {"Node Type": "ModifyTable", "Subplan Name": f"CTE {name}", "Shared Hit Blocks": hit}

    scan = {"Node Type": "CTE Scan", "CTE Name": "task", "Shared Hit Blocks": 5}
    root = {"Node Type": "Limit", "Shared Hit Blocks": 5, "Plans": [cte("task", 5), cte("event", 3), scan]}
    assert _buffers(root) == 8


def test_sizes_follow_the_benchmark_they_are_for() -> None:
    assert _chosen(["burst", "tasks=200", "rounds=1", "memory"]) == [
        ("burst", {"tasks": 200, "rounds": 1}),
        ("memory", {}),
    ]
    assert _chosen([]) == []
    for wrong in (["tasks=200"], ["burst", "waiting=3"], ["burst", "tasks=many"], ["nothing"]):
        with pytest.raises(ValueError, match="no benchmark or size"):
            _chosen(wrong)


def test_every_size_has_a_number_as_its_default() -> None:
    assert all(isinstance(size, int) for benchmark in BENCHMARKS.values() for size in benchmark.sizes.values())
