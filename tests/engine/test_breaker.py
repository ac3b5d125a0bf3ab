"""Circuit breakers: shared rows that the dispatcher moves on (issue: closed, open, half-open; one probe)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from tasks_app import engine
from tasks_app.dispatch.plan import Rules
from tasks_app.engine import BreakerState, Finish
from tasks_app.engine.breaker import LOOK
from tasks_app.models import Breaker, Outcome, TaskAttempt
from tasks_app.policies import BreakerPolicy
from tasks_app.status import Lane, TaskStatus
from tests.factory import Factory, admit, completed

pytestmark = pytest.mark.django_db
POLICY = {"echo": BreakerPolicy(failures=3, window_s=60, open_s=30)}
FAILED = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED)


@pytest.fixture(autouse=True)
def _closed_since_a_while(factory: Factory) -> None:
    judge()
    Breaker.objects.update(changed_at=F("changed_at") - timedelta(minutes=10))


def judge(policy: dict[str, BreakerPolicy] = POLICY) -> BreakerState:
    return engine.run(engine.judge, policy)[0]


def opened(factory: Factory) -> None:
    for _ in range(3):
        factory.finished(FAILED)
    assert judge().state == "open"


def half_open(factory: Factory) -> None:
    opened(factory)
    assert judge().state == "open"
    # A new look starts from here: the failures that opened it lie before.
    TaskAttempt.objects.update(ended_at=F("ended_at") - timedelta(minutes=5))
    Breaker.objects.update(retry_at=F("retry_at") - timedelta(minutes=5))
    assert judge().state == "half_open"


def probe(factory: Factory) -> engine.Claim:
    """The one task that is let through while half open."""
    first, _ = factory.pending(), factory.pending()
    hints = admit({Lane.IO: 9}, Rules(probing=frozenset({"echo"})))
    assert [hint.task_id for hint in hints] == [first]
    assert judge().probing
    return factory.claim(first)


def test_it_opens_at_the_count_and_not_before(factory: Factory) -> None:
    factory.finished(FAILED)
    factory.finished(FAILED)
    factory.finished()
    assert judge() == BreakerState(agent="echo", state="closed")
    factory.finished(FAILED)
    state = judge()
    assert (state.state, state.changed, state.reason) == ("open", True, "3 attempts failed within 60 s")


def test_failures_before_the_window_do_not_count(factory: Factory) -> None:
    for _ in range(5):
        factory.finished(FAILED)
    TaskAttempt.objects.update(ended_at=F("ended_at") - timedelta(minutes=2))
    assert judge().state == "closed"


def test_by_rate_it_opens_only_if_enough_of_all_ends_failed(factory: Factory) -> None:
    policy = {"echo": BreakerPolicy(failures=3, rate=0.5)}
    for _ in range(4):
        factory.finished()
    for _ in range(3):
        factory.finished(FAILED)
    assert judge(policy).state == "closed"
    factory.finished(FAILED)
    assert judge(policy).state == "open"


def test_a_retry_counts_and_a_rejection_or_a_cancel_does_not(factory: Factory) -> None:
    for _ in range(5):
        factory.finished(Finish(status=TaskStatus.REJECTED, outcome=Outcome.REJECTED))
        engine.run(engine.request_cancel, [factory.claimed().task_id], by="a test")
    assert judge().state == "closed"
    for _ in range(3):
        factory.finished(Finish(status=TaskStatus.PENDING, outcome=Outcome.RETRIED))
    assert judge().state == "open"


def test_an_open_breaker_becomes_half_open_after_its_time(factory: Factory) -> None:
    half_open(factory)
    assert Breaker.objects.get().probe is None


def test_a_probe_that_ends_well_closes_it(factory: Factory) -> None:
    half_open(factory)
    claim = probe(factory)
    assert judge().probing
    factory.write(claim, finish=completed())
    assert judge().state == "closed"
    assert judge().state == "closed"


def test_a_probe_that_fails_opens_it_again(factory: Factory) -> None:
    half_open(factory)
    factory.write(probe(factory), finish=FAILED)
    state = judge()
    assert (state.state, state.reason) == ("open", "the probe ended: failed")


def test_until_a_probe_that_has_failed_is_judged_no_other_is_let_through(factory: Factory) -> None:
    """The dispatcher judges once a second, and a probe may fail within milliseconds."""
    half_open(factory)
    factory.write(probe(factory), finish=FAILED)
    TaskAttempt.objects.update(released_at=F("claimed_at"))
    rules = Rules(probing=frozenset({"echo"}))
    assert admit({Lane.IO: 9}, rules) == []
    assert judge().state == "open"
    Breaker.objects.update(retry_at=F("retry_at") - timedelta(minutes=5))
    assert judge().state == "half_open"
    assert len(admit({Lane.IO: 9}, rules)) == 1


@pytest.mark.parametrize("claimed", [True, False])
def test_a_probe_that_is_cancelled_lets_another_through(claimed: bool, factory: Factory) -> None:
    half_open(factory)
    if claimed:
        task_id = probe(factory).task_id
    else:
        task_id = factory.pending()
        admit({Lane.IO: 9}, Rules(probing=frozenset({"echo"})))
    engine.run(engine.request_cancel, [task_id], by="a test")
    assert judge() == BreakerState(
        agent="echo",
        state="half_open",
        changed=True,
        reason="the probe did not run to its end; another is let through",
    )
    TaskAttempt.objects.update(released_at=F("claimed_at"))
    for _ in range(2):
        factory.pending()
    assert len(admit({Lane.IO: 9}, Rules(probing=frozenset({"echo"})))) == 1


def test_agents_without_a_policy_have_no_breaker() -> None:
    assert engine.run(engine.judge, {}) == []


def test_looking_at_breakers_scans_no_table(factory: Factory) -> None:
    factory.finished(FAILED)
    params: Any = {"agent": ["echo"], "window_s": [60.0], "failures": [1], "rate": [0.5]}
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + LOOK, params)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "attempt_failures_idx" in plan
    assert "attempt_claimed_brin" in plan
    assert "Seq Scan on tasks_app_taskattempt" not in plan
