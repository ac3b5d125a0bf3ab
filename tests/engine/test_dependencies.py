"""Tasks that need others: admitted when all of those have completed, failed when one has not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from tasks_app import engine
from tasks_app.engine import Created, Freed, Resolved
from tasks_app.models import Task, TaskDependency
from tasks_app.status import TERMINAL, Lane, TaskStatus
from tests.engine.test_batches import FAILED, LANES, opened
from tests.engine.test_races import together
from tests.factory import Factory, admit, completed, new_task

pytestmark = pytest.mark.django_db(transaction=True)


def resolve(**limits: int) -> Resolved:
    return engine.run(engine.resolve, **limits)


def end(factory: Factory, task_id: UUID, finish: Any = None) -> None:
    admit({Lane.IO: 10})
    factory.write(factory.claim(task_id), finish=finish or completed())


def admitted() -> set[UUID]:
    return {hint.task_id for hint in admit({Lane.IO: 10})}


def error_of(task_id: UUID) -> dict[str, str]:
    error: dict[str, str] | None = Task.objects.get(id=task_id).error
    assert error is not None
    return error


def left(task_id: UUID) -> int:
    return Task.objects.get(id=task_id).deps_left


def test_it_is_admitted_when_all_that_it_needs_have_completed(factory: Factory) -> None:
    first, second = factory.pending(), factory.pending()
    last = factory.pending(depends_on=(first, second))
    assert admitted() == {first, second}
    end(factory, first)
    resolved = resolve()
    assert (resolved.waits, resolved.freed, left(last), admitted()) == (True, [], 1, set())
    end(factory, second)
    (freed,) = resolve().freed
    assert freed == Freed(last, "io", "echo", 2, factory.owner.pk)
    assert (left(last), admitted()) == (0, {last})
    assert resolve() == Resolved(waits=False)


def test_what_had_completed_before_counts(factory: Factory) -> None:
    last = factory.pending(depends_on=(factory.finished(),))
    assert admitted() == set()
    resolve()
    assert admitted() == {last}


@pytest.mark.parametrize("status", sorted(TERMINAL - {TaskStatus.COMPLETED}))
def test_it_fails_when_one_ends_otherwise_and_so_does_what_needs_it(factory: Factory, status: TaskStatus) -> None:
    first = factory.in_state(status)
    second = factory.pending(depends_on=(first, factory.pending()))
    third = factory.pending(depends_on=(second,))
    (failed,) = resolve().failed
    assert (failed.task_id, failed.status, failed.outcome) == (second, "failed", None)
    assert [task.task_id for task in resolve().failed] == [third]
    assert not resolve().failed
    error = error_of(second)
    assert error == {"code": "dependency_failed", "message": f"task {first}, which it needs, is {status}"}
    assert error_of(third)["message"] == f"task {second}, which it needs, is failed"
    last = Task.objects.get(id=second).events.latest("generation")
    assert (last.kind, last.status, last.error) == ("status", "failed", error)


def test_what_is_gone_was_not_seen_to_complete(factory: Factory) -> None:
    gone = uuid4()
    last = factory.pending(depends_on=(gone,))
    resolve()
    assert error_of(last)["message"] == f"task {gone}, which it needs, is gone"


def test_one_that_is_cancelled_meanwhile_stays_so(factory: Factory) -> None:
    first = factory.pending()
    last, other = factory.pending(depends_on=(first,)), factory.pending(depends_on=(first,))
    assert engine.run(engine.request_cancel, [last], by="a test")
    end(factory, first)
    assert [task.id for task in resolve().freed] == [other]
    assert Task.objects.get(id=last).status == "cancelled"
    assert not resolve().waits


def test_its_start_deadline_counts_from_when_it_may_run(factory: Factory) -> None:
    first = factory.pending()
    last = factory.pending(depends_on=(first,), start_deadline_s=60.0)
    long_ago = timezone.now() - timedelta(hours=1)
    Task.objects.filter(id=last).update(run_after=long_ago, start_deadline_at=long_ago + timedelta(seconds=60))
    assert engine.run(engine.expire) == []
    end(factory, first)
    resolve()
    task = Task.objects.get(id=last)
    assert task.run_after > timezone.now() - timedelta(seconds=30)
    assert task.start_deadline_at == task.run_after + timedelta(seconds=60)
    assert engine.run(engine.expire) == []


def test_many_are_seen_a_few_at_a_time(factory: Factory) -> None:
    first = factory.finished()
    made = [factory.pending(depends_on=(first,)) for _ in range(5)]
    assert [len(resolve(limit=2).freed) for _ in range(4)] == [2, 2, 1, 0]
    assert admitted() == set(made)


@pytest.mark.parametrize("attempt", range(5))
def test_sweeps_that_run_together_count_each_end_once(attempt: int, factory: Factory) -> None:
    needed = [factory.finished() for _ in range(6)]
    last = factory.pending(depends_on=tuple(needed))
    together(*[lambda: resolve(limit=2)] * 3)
    while resolve(limit=2).waits:
        pass
    assert left(last) == 0
    assert TaskDependency.objects.filter(settled_at__isnull=False).count() == 6


@pytest.mark.parametrize("attempt", range(5))
def test_an_end_is_not_overtaken_by_the_making_of_what_needs_it(attempt: int, factory: Factory) -> None:
    claim = factory.claimed()
    item = new_task(factory.owner, depends_on=(claim.task_id,))
    together(
        lambda: factory.write(claim, finish=completed()), lambda: engine.run(engine.create, [item]), lambda: resolve()
    )
    resolve()
    assert admitted() == {item.id}


def test_the_database_admits_nothing_that_needs_another(factory: Factory) -> None:
    last = factory.pending(depends_on=(factory.pending(),))
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.filter(id=last).update(admitted_at=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskDependency.objects.create(task_id=last, needs_id=last)


def rerun(*task_ids: UUID) -> dict[UUID, Created]:
    made = engine.run(engine.rerun, list(task_ids), lanes=LANES)
    return {Task.objects.get(id=each.task_id).rerun_of_id or UUID(int=0): each for each in made}


def test_a_rerun_of_a_chain_is_a_chain_of_the_reruns(factory: Factory) -> None:
    batch_id = opened(factory.owner, size=4)
    good = factory.finished(batch_id=batch_id, batch_index=0)
    bad = factory.finished(FAILED, batch_id=batch_id, batch_index=1)
    item = new_task(factory.owner, batch_id=batch_id, batch_index=2, depends_on=(good, bad))
    engine.run(engine.create, [item])
    last = factory.pending(batch_id=batch_id, batch_index=3, depends_on=(item.id,))
    for _ in range(2):
        resolve()
    made = rerun(bad, item.id, last)
    again = {before: Task.objects.get(id=each.task_id) for before, each in made.items()}
    assert set(TaskDependency.objects.filter(settled_at=None).values_list("task_id", "needs_id")) == {
        (again[item.id].id, again[bad].id),
        (again[last].id, again[item.id].id),
    }
    for before in (bad, item.id, last):
        resolve()
        assert admitted() == {again[before].id}
        factory.write(factory.claim(again[before].id), finish=completed())
    assert engine.run(engine.settle) == [batch_id]


def test_one_that_is_run_again_alone_needs_the_newest_of_what_it_needed(factory: Factory) -> None:
    bad = factory.finished(FAILED)
    last = factory.pending(depends_on=(bad,))
    resolve()
    alone = rerun(last)[last].task_id
    resolve()
    assert error_of(alone)["code"] == "dependency_failed"
    again = rerun(bad)[bad].task_id
    second = rerun(last)[last].task_id
    assert list(TaskDependency.objects.filter(task_id=second).values_list("needs_id", flat=True)) == [again]
    end(factory, again)
    resolve()
    assert admitted() == {second}


def test_a_rerun_needs_the_rerun_of_a_rerun(factory: Factory) -> None:
    first = factory.finished(FAILED)
    last = factory.pending(depends_on=(first,))
    resolve()
    second = rerun(first)[first].task_id
    end(factory, second, FAILED)
    made = rerun(second, last)
    third, again = made[second].task_id, made[last].task_id
    assert list(TaskDependency.objects.filter(task_id=again).values_list("needs_id", flat=True)) == [third]


def test_what_failed_by_itself_needs_nothing_when_it_is_run_again(factory: Factory) -> None:
    """However long ago what it needed has completed: it may be gone by now."""
    first = factory.finished()
    last = factory.pending(depends_on=(first,))
    resolve()
    end(factory, last, FAILED)
    engine.run(engine.prune, {TaskStatus.COMPLETED: 0.0})
    again = rerun(last)[last].task_id
    resolve()
    assert admitted() == {again}


def test_they_go_with_their_task(factory: Factory) -> None:
    first = factory.finished()
    last = factory.pending(depends_on=(first,))
    resolve()
    end(factory, last)
    engine.run(engine.prune, dict.fromkeys(TERMINAL, 0.0))
    assert (Task.objects.count(), TaskDependency.objects.count()) == (0, 0)
