"""Retry, breaker and resource policies: pure."""

from __future__ import annotations

import pytest

from tasks_app.policies import BreakerPolicy, Resources, RetryPolicy


def test_the_backoff_doubles_up_to_its_cap_with_full_jitter() -> None:
    policy = RetryPolicy(initial_s=1, multiplier=2, max_s=10)
    assert [policy.delay_s(failures, 1.0) for failures in range(6)] == [1, 2, 4, 8, 10, 10]
    assert policy.delay_s(3, 0.5) == 4
    assert policy.delay_s(3, 0.0) == 0
    assert policy.delay_s(100_000, 1.0) == 10


def test_what_is_never_retried_goes_before_what_is() -> None:
    policy = RetryPolicy(on=(OSError,), never=(FileNotFoundError,))
    assert policy.retries(ConnectionError())
    assert not policy.retries(FileNotFoundError())
    assert not policy.retries(ValueError())


def test_a_breaker_trips_by_count_and_by_rate() -> None:
    by_count = BreakerPolicy(failures=3)
    assert not by_count.trips(failed=2, ended=2)
    assert by_count.trips(failed=3, ended=1000)
    by_rate = BreakerPolicy(failures=3, rate=0.5)
    assert not by_rate.trips(failed=3, ended=7)
    assert by_rate.trips(failed=4, ended=8)


def test_a_task_asks_for_other_resources_than_its_agent_declares() -> None:
    declared = Resources(memory_mb=100, cores=1)
    assert declared.with_asked({"memory_mb": 50, "cpu_s": 2.5}) == Resources(memory_mb=50, cores=1, cpu_s=2.5)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"gpus": 1}, "gpus: unknown; there are: memory_mb, cores, disk_mb, cpu_s"),
        ({"memory_mb": -1}, "memory_mb: must be a number"),
        ({"memory_mb": 1.5}, "memory_mb: must be whole"),
        ({"cores": float("nan")}, "cores: must be a number"),
        ({"cores": True}, "cores: must be a number"),
        ({"cpu_s": "much"}, "cpu_s: must be a number"),
        ({"memory_mb": 2**40}, "memory_mb: must be a number from 0 to 1073741824"),
    ],
)
def test_resources_that_make_no_sense_name_their_field(asked: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Resources().with_asked(asked)


@pytest.mark.parametrize("fields", [{"initial_s": -1}, {"max_s": 0.5}, {"multiplier": 0.5}, {"max_s": float("inf")}])
def test_a_retry_policy_that_makes_no_sense_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="RetryPolicy"):
        RetryPolicy(**fields)  # type: ignore[arg-type]
