"""admit on real rows: order, limits, pauses, rates, several dispatchers (DESIGN D4, 9.6, 10 «Admission»)."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.expressions import RawSQL
from django.utils import timezone

from tasks_app import engine
from tasks_app.dispatch.plan import Plan, Rules
from tasks_app.engine.admit import BURST_S, GROUPS, Admission, GroupKey, Known, tokens_left
from tasks_app.models import Client, QueueControl, Task, TaskAttempt
from tasks_app.status import Lane, Priority
from tests.engine.test_races import together
from tests.factory import Factory, admit, completed, new_task

IO = {Lane.IO: 50}


def waited(minutes: float) -> timedelta:
    return timedelta(minutes=minutes)


@pytest.mark.django_db
def test_ageing_lifts_one_level_in_ten_minutes(factory: Factory) -> None:
    old, young = factory.pending(priority=Priority.LOW), factory.pending(priority=Priority.NORMAL)
    Task.objects.filter(id=old).update(run_after=F("run_after") - waited(9.9))
    assert [hint.task_id for hint in admit({Lane.IO: 1})] == [young]
    Task.objects.filter(id=old).update(run_after=F("run_after") - waited(10.2))
    urgent = factory.pending(priority=Priority.NORMAL)
    assert [hint.task_id for hint in admit({Lane.IO: 1})] == [old]
    assert [hint.task_id for hint in admit({Lane.IO: 1})] == [urgent]


@pytest.mark.django_db
def test_an_aged_head_lifts_itself_and_not_its_whole_group(factory: Factory) -> None:
    old, fresh = factory.pending(priority=Priority.LOW), factory.pending(priority=Priority.LOW)
    normal = factory.pending(priority=Priority.NORMAL)
    Task.objects.filter(id=old).update(run_after=F("run_after") - waited(25))
    assert [hint.task_id for hint in admit(IO)] == [old, normal, fresh]


@pytest.mark.django_db
def test_clients_share_fairly_within_a_priority(factory: Factory) -> None:
    other = Client.objects.create(name="other")
    for _ in range(20):
        factory.pending()
    late = [engine.run(engine.create, [new_task(other)])[0].task_id for _ in range(3)]
    admitted = {hint.task_id for hint in admit({Lane.IO: 6})}
    assert set(late) <= admitted
    assert len(admitted) == 6


@pytest.mark.django_db
def test_a_limit_counts_what_runs_and_what_still_holds_a_slot(factory: Factory) -> None:
    rules = Rules(client_max={factory.owner.pk: 3})
    for _ in range(9):
        factory.pending()
    assert len(admit(IO, rules)) == 3
    first, second, third = (factory.claim(task.id) for task in Task.objects.filter(admitted_at__isnull=False))
    assert admit(IO, rules) == []
    factory.write(first, finish=completed())
    assert len(admit(IO, rules)) == 1
    # A cancel fences at once, and frees the slot only when the handler has stopped.
    engine.run(engine.request_cancel, [second.task_id], by="a test")
    assert admit(IO, rules) == []
    engine.run(engine.release, [second.attempt_id])
    assert len(admit(IO, rules)) == 1
    assert TaskAttempt.objects.get(id=third.attempt_id).released_at is None


@pytest.mark.django_db
def test_a_holder_that_dies_gives_its_place_back(factory: Factory) -> None:
    rules = Rules(agent_max={"echo": 1})
    claim = factory.claimed()
    waiting = factory.pending()
    assert admit(IO, rules) == []
    factory.lose_lease(claim)
    engine.run(engine.rescue)
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    assert [hint.task_id for hint in admit(IO, rules)] == [waiting]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", range(5))
def test_a_limit_holds_with_several_dispatchers_at_once(attempt: int, factory: Factory) -> None:
    for _ in range(40):
        factory.pending()
    rules = Rules(client_max={factory.owner.pk: 10}, agent_max={"echo": 7})
    rounds = together(*[lambda: admit(IO, rules) for _ in range(4)])
    assert sum(len(hints) for hints in rounds) == 7
    assert Task.objects.filter(admitted_at__isnull=False).count() == 7


@pytest.mark.django_db
def test_an_agent_with_a_rate_gets_a_burst_and_then_its_rate(factory: Factory) -> None:
    for _ in range(50):
        factory.pending()
    rules = Rules(rates={"echo": 40.0})
    assert len(admit(IO, rules)) == int(40 * BURST_S)
    assert admit(IO, rules) == []
    QueueControl.objects.update(next_at=RawSQL("now() + interval '0.15 s'", []))
    assert len(admit(IO, rules)) == 4


@pytest.mark.parametrize(("debt_s", "rate", "tokens"), [(0, 40, 10), (0.25, 40, 0), (0.225, 40, 1), (9, 40, 0)])
def test_a_bucket_fills_at_its_rate(debt_s: float, rate: float, tokens: int) -> None:
    assert tokens_left(debt_s, rate) == tokens
    assert tokens_left(0, 0.01) == 1


@pytest.mark.django_db
def test_what_was_admitted_and_is_paused_now_leaves_the_broker(factory: Factory) -> None:
    admitted, running = factory.admitted(), factory.claimed()
    engine.run(engine.unadmit, agents=["echo"])
    task = Task.objects.get(id=admitted)
    assert (task.admitted_at, task.epoch) == (None, 1)
    assert Task.objects.get(id=running.task_id).status == "running"
    assert [hint.epoch for hint in admit(IO)] == [1]
    engine.run(engine.unadmit, client_ids=[factory.owner.pk])
    assert [hint.epoch for hint in admit(IO)] == [2]
    engine.run(engine.unadmit, queues=[(Lane.IO, Priority.LOW)])
    assert admit(IO) == []
    engine.run(engine.unadmit, queues=[(Lane.IO, Priority.NORMAL)])
    assert [hint.epoch for hint in admit(IO)] == [3]


@pytest.mark.django_db
def test_what_is_due_later_is_told_and_not_admitted(factory: Factory) -> None:
    factory.pending(run_after=timezone.now() + timedelta(seconds=30))
    admission = engine.run(engine.admit, lambda scene: Plan(IO, Rules(), scene, served={}))
    assert admission.hints == []
    assert admission.next_due_s == pytest.approx(30, abs=5)


@pytest.mark.django_db
def test_a_round_that_knows_the_groups_looks_only_at_those_that_changed(factory: Factory) -> None:
    def admitted(seats: int, known: Known | None) -> Admission:
        return engine.run(engine.admit, lambda scene: Plan({Lane.IO: seats}, Rules(), scene, served={}), known=known)

    key = {level: GroupKey("io", level, "echo", factory.owner.pk) for level in Priority}
    normal = [factory.pending() for _ in range(3)]
    first = admitted(1, None)
    assert ([hint.task_id for hint in first.hints], set(first.known.heads)) == (normal[:1], {key[Priority.NORMAL]})
    assert set(first.known.changed) == {key[Priority.NORMAL]}
    # One that nobody told of is not seen; one that was told of goes first.
    high, critical = factory.pending(priority=Priority.HIGH), factory.pending(priority=Priority.CRITICAL)
    told = Known(first.known.heads, {*first.known.changed, key[Priority.CRITICAL]})
    second = admitted(2, told)
    assert [hint.task_id for hint in second.hints] == [critical, normal[1]]
    # Of what it took all there was, it forgets the group; what it did not look at, it keeps.
    third = admitted(2, second.known)
    assert [hint.task_id for hint in third.hints] == [normal[2]]
    assert set(third.known.heads) == {key[Priority.NORMAL]}
    assert admitted(2, third.known).known.heads == {}
    assert [hint.task_id for hint in admitted(2, None).hints] == [high]


@pytest.mark.django_db
def test_many_groups_are_hopped_over_and_not_sorted(factory: Factory) -> None:
    """One look-up per group in the dispatch index, however many tasks wait in it (show the plan)."""
    for priority in Priority:
        engine.run(engine.create, [new_task(factory.owner, priority=priority) for _ in range(500)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_task")
        cursor.execute("EXPLAIN (ANALYZE, FORMAT TEXT) " + GROUPS)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "task_dispatch_idx" in plan
    assert "Sort" not in plan
    assert "Seq Scan" not in plan
    hints = admit({Lane.IO: 4})
    assert Counter(hint.priority for hint in hints) == {Priority.CRITICAL: 4}
