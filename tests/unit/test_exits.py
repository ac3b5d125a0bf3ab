"""Why an attempt ended: a pure choice, for every way in which a process can die."""

from __future__ import annotations

import pickle
import signal
from uuid import uuid4

import pytest

from tasks_app import agents
from tasks_app.agents import AgentSpec
from tasks_app.engine import Usage
from tasks_app.models import Outcome
from tasks_app.policies import Resources, RetryPolicy
from tasks_app.status import Lane
from workers import exits
from workers.exits import Cause, LimitReached, OomWatch, cause_of
from workers.slots import Exit

ASKED = Resources(memory_mb=100, cpu_s=1.5, disk_mb=4)


@pytest.mark.parametrize(
    ("status", "oom", "code", "named"),
    [
        (-signal.SIGSEGV, False, "segfault", "SIGSEGV"),
        (-signal.SIGSEGV, True, "segfault", "SIGSEGV"),
        (-signal.SIGBUS, False, "segfault", "SIGBUS"),
        (-signal.SIGKILL, False, "process_lost", "SIGKILL"),
        (-signal.SIGKILL, True, "oom_killed", "memory"),
        (-signal.SIGTERM, True, "process_lost", "SIGTERM"),
        (-signal.SIGABRT, False, "process_lost", "SIGABRT"),
        (-63, False, "process_lost", "signal 63"),
        (0, False, "process_lost", "exit code 0"),
        (7, True, "process_lost", "exit code 7"),
        (None, True, "process_lost", "died"),
    ],
)
def test_a_process_that_dies_is_told_by_what_it_died_of(status: int | None, oom: bool, code: str, named: str) -> None:
    cause = cause_of(status, killed=None, oom=oom)
    assert (cause.outcome, cause.code, cause.limit) == (Outcome.PROCESS_LOST, code, False)
    assert named in cause.message


@pytest.mark.parametrize("cause", [exits.out_of_memory(ASKED), exits.cpu_limit(ASKED), exits.disk_limit(ASKED)])
def test_a_process_that_its_parent_killed_ended_by_the_limit(cause: Cause) -> None:
    for status in (-signal.SIGKILL, None):
        assert cause_of(status, killed=cause, oom=True) == cause


def test_a_process_that_crashed_before_its_parent_killed_it_has_crashed() -> None:
    assert cause_of(-signal.SIGSEGV, killed=exits.cpu_limit(ASKED), oom=False).code == "segfault"


@pytest.mark.parametrize(
    ("cause", "outcome", "named"),
    [
        (exits.out_of_memory(ASKED), Outcome.OUT_OF_MEMORY, "100 MiB"),
        (exits.out_of_memory(Resources()), Outcome.OUT_OF_MEMORY, "memory"),
        (exits.cpu_limit(ASKED), Outcome.CPU_LIMIT, "1.5 s"),
        (exits.disk_limit(ASKED), Outcome.DISK_LIMIT, "4 MiB"),
        (exits.timeout(30.0), Outcome.TIMED_OUT, "30 s"),
    ],
)
def test_a_limit_that_is_reached_says_which_and_survives_celery(cause: Cause, outcome: Outcome, named: str) -> None:
    error = pickle.loads(pickle.dumps(LimitReached.by(cause)))  # noqa: S301 (our own)
    assert (error.outcome, error.code, str(error)) == (outcome, cause.code, cause.message)
    assert named in cause.message


@pytest.fixture
def forgiving(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an agent that tries again after it ran out of memory."""
    policy = RetryPolicy(codes=frozenset({"out_of_memory"}))
    spec = AgentSpec(name="forgiving", handler=print, lane=Lane.CPU, description="Forgives.", retry=policy)
    monkeypatch.setitem(agents._registry, "forgiving", spec)
    return "forgiving"


def test_a_limit_ends_the_task_unless_its_agent_tries_such_ends_again(forgiving: str) -> None:
    ends = [
        ("echo", exits.out_of_memory(ASKED), True),
        ("nobody", exits.out_of_memory(ASKED), True),
        (forgiving, exits.out_of_memory(ASKED), False),
        (forgiving, exits.cpu_limit(ASKED), True),
        ("echo", cause_of(-signal.SIGSEGV, killed=None, oom=False), False),
    ]
    usage = Usage(peak_rss_bytes=1, cpu_s=2.0, disk_bytes=3)
    for agent, cause, final in ends:
        end = Exit(attempt_id=uuid4(), agent=agent, status=-9)
        lost = exits.loss(end, cause, usage)
        assert (lost.final, lost.code, lost.outcome, lost.usage) == (final, cause.code, cause.outcome, usage)
        assert (lost.attempt_id, lost.released, lost.spend) == (end.attempt_id, True, True)


def test_the_kernels_count_rises_within_a_window_only() -> None:
    now_s, count = 0.0, 3
    watch = OomWatch(lambda: count, lambda: now_s)
    assert not watch.rose()
    now_s, count = 1.0, 4
    assert watch.rose()
    for _ in range(4):
        now_s += 1.0
        assert watch.rose()  # the process that was killed may die a little later
    for _ in range(4):
        now_s += 1.0
        watch.look()
    assert not watch.rose()


def test_after_a_pause_the_kernels_count_is_compared_with_what_was_seen_last() -> None:
    now_s, count = 0.0, 3
    watch = OomWatch(lambda: count, lambda: now_s)
    now_s = 1000.0
    assert not watch.rose()
    now_s, count = 2000.0, 4
    assert watch.rose()
