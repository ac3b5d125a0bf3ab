"""Batches: their places, when they are complete, and what a rerun changes of that."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from tasks_app import engine
from tasks_app.engine import Created, Finish, NewBatch, Steps, Tally
from tasks_app.engine.core import Row, Statement
from tasks_app.models import Batch, Client, Outcome, Task
from tasks_app.status import TERMINAL, Lane, TaskStatus
from tests.engine.test_races import together
from tests.factory import Factory, admit, completed
from tests.live import wait_for

LANES = {"echo": Lane.IO}
FAILED = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error={"code": "x", "message": "y"})
DIGEST = b"d" * 32


def opened(owner: Client, **fields: Any) -> UUID:
    new = NewBatch(client_id=owner.pk, **{"digest": DIGEST, "size": 2, **fields})
    return engine.run(engine.open_batch, new).batch_id


def settled() -> list[UUID]:
    return engine.run(engine.settle)


def tally(batch_id: UUID) -> Tally:
    return engine.run(engine.tally, [batch_id])[batch_id]


def rerun(*task_ids: UUID, **limits: Any) -> list[Created]:
    return engine.run(engine.rerun, list(task_ids), lanes=LANES, **limits)


def rows(statement: Statement) -> list[Row]:
    """What a statement returns."""

    def verb() -> Steps[list[Row]]:
        return (yield statement)

    return engine.run(verb)


@pytest.mark.django_db
def test_a_key_stands_for_one_request_of_one_client(owner: Client) -> None:
    first = NewBatch(client_id=owner.pk, digest=DIGEST, size=1, key="k")
    assert engine.run(engine.find_batch, first) is None
    assert not engine.run(engine.open_batch, first).repeated
    again = engine.run(engine.open_batch, NewBatch(client_id=owner.pk, digest=DIGEST, size=1, key="k"))
    assert (again.batch_id, again.repeated, again.conflict) == (first.id, True, False)
    other = engine.run(engine.open_batch, NewBatch(client_id=owner.pk, digest=b"e" * 32, size=1, key="k"))
    assert (other.batch_id, other.conflict) == (first.id, True)
    stranger = Client.objects.create(name="stranger")
    assert opened(stranger, key="k") != first.id
    assert len({opened(owner), opened(owner)}) == 2
    assert Batch.objects.count() == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", range(3))
def test_of_requests_under_one_key_that_come_together_one_makes_the_batch(attempt: int, owner: Client) -> None:
    def request() -> UUID:
        return opened(owner, key="k")

    assert len(set(together(*[request] * 4))) == Batch.objects.count() == 1


@pytest.mark.django_db
def test_a_place_is_held_by_one_task_and_only_in_a_batch(factory: Factory) -> None:
    batch_id = opened(factory.owner)
    factory.pending(batch_id=batch_id, batch_index=0)
    for fields in (
        {"batch_id": batch_id, "batch_index": 0},
        {"batch_index": 0},
        {"batch_id": batch_id, "batch_index": -1},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            factory.pending(**fields)


@pytest.mark.django_db(transaction=True)
def test_no_task_is_in_a_batch_that_is_not_there(owner: Client) -> None:
    with pytest.raises(DatabaseError):
        Factory(owner).pending(batch_id=UUID(int=1), batch_index=0)


@pytest.mark.django_db
def test_it_is_complete_with_its_last_task_and_keeps_the_counts(factory: Factory) -> None:
    batch_id = opened(factory.owner)
    factory.finished(batch_id=batch_id, batch_index=0)
    last = factory.pending(batch_id=batch_id, batch_index=1)
    assert settled() == []
    assert tally(batch_id) == Tally(counts={"completed": 1, "pending": 1}, progress=1.0)
    assert engine.run(engine.request_cancel, [last], by="a test")
    assert settled() == [batch_id]
    batch = Batch.objects.get()
    assert (batch.counts, batch.generation) == ({"completed": 1, "cancelled": 1}, 1)
    assert batch.completed_at == Task.objects.get(id=last).completed_at
    assert settled() == []


@pytest.mark.django_db
def test_one_of_which_no_task_was_made_is_never_complete(owner: Client) -> None:
    opened(owner)
    assert settled() == []


@pytest.mark.django_db
def test_no_more_are_completed_at_once_than_the_limit(factory: Factory) -> None:
    made = sorted(opened(factory.owner) for _ in range(3))
    for batch_id in made:
        factory.finished(batch_id=batch_id, batch_index=0)
    assert engine.run(engine.settle, limit=2) == made[:2]
    assert settled() == made[2:]


@pytest.mark.django_db
def test_a_rerun_takes_the_place_and_opens_the_batch_again(factory: Factory) -> None:
    batch_id = opened(factory.owner)
    factory.finished(batch_id=batch_id, batch_index=0)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=1)
    assert settled() == [batch_id]
    (made,) = rerun(failed)
    again, before = Task.objects.get(id=made.task_id), Task.objects.get(id=failed)
    assert (again.batch_id, again.batch_index, again.rerun_of_id) == (batch_id, 1, failed)
    assert (before.batch_id, before.batch_index, before.status) == (batch_id, None, "failed")
    batch = Batch.objects.get()
    assert (batch.completed_at, batch.counts) == (None, None)
    assert tally(batch_id).counts == {"completed": 1, "pending": 1}
    assert settled() == []
    admit({Lane.IO: 1})
    factory.write(factory.claim(again.id), finish=completed())
    assert settled() == [batch_id]
    batch.refresh_from_db()
    assert (batch.counts, batch.generation) == ({"completed": 2}, 2)


@pytest.mark.django_db
def test_what_has_lost_its_place_is_run_again_outside_of_the_batch(factory: Factory) -> None:
    batch_id = opened(factory.owner)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=0)
    first, second = rerun(failed)[0], rerun(failed)[0]
    assert Task.objects.get(id=first.task_id).batch_index == 0
    assert Task.objects.get(id=second.task_id).batch_id is None


@pytest.mark.django_db
def test_a_rerun_that_is_refused_leaves_the_place_where_it_was(factory: Factory) -> None:
    batch_id = opened(factory.owner)
    failed = [factory.finished(FAILED, batch_id=batch_id, batch_index=index) for index in range(2)]
    assert settled() == [batch_id]
    made = rerun(*failed, max_queued=1)
    assert [created.refused for created in made] == [False, True]
    held = dict(Task.objects.filter(batch_index__isnull=False).values_list("batch_index", "id"))
    assert held == {0: made[0].task_id, 1: failed[1]}
    assert rerun(failed[1], max_queued=1)[0].refused
    assert Task.objects.get(id=failed[1]).batch_index == 1


@pytest.mark.django_db
def test_where_every_rerun_is_refused_the_batch_stays_complete(factory: Factory) -> None:
    batch_id = opened(factory.owner)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=0)
    assert settled() == [batch_id]
    assert rerun(failed, max_queued=0)[0].refused
    assert Batch.objects.get().completed_at is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", range(5))
def test_of_two_reruns_of_a_task_one_takes_its_place(attempt: int, factory: Factory) -> None:
    batch_id = opened(factory.owner)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=0)
    together(*[lambda: rerun(failed)] * 3)
    assert Task.objects.filter(rerun_of=failed).count() == 3
    assert [task.rerun_of_id for task in Task.objects.filter(batch=batch_id, batch_index=0)] == [failed]


@pytest.mark.django_db(transaction=True)
def test_of_two_reruns_of_a_batch_one_makes_its_tasks(factory: Factory) -> None:
    batch_id = opened(factory.owner)
    failed = [factory.finished(FAILED, batch_id=batch_id, batch_index=index) for index in range(3)]
    made = together(*[lambda: rerun(*failed, placed=True)] * 3)
    assert sorted(len(each) for each in made) == [0, 0, 3]
    assert Task.objects.filter(status="pending").count() == Task.objects.filter(batch=batch_id).count() - 3 == 3


@pytest.mark.django_db(transaction=True)
def test_what_is_deleted_meanwhile_is_not_run_again(factory: Factory) -> None:
    """A rerun that comes between the two steps of a sweep waits for it, in the order in which both lock."""
    batch_id = opened(factory.owner)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=0)
    settled()
    made: list[Any] = []

    def again() -> None:
        try:
            with transaction.atomic():  # so that a deadlock is not tried again
                made.append(rerun(failed))
        finally:
            connection.close()

    thread = threading.Thread(target=again)
    with transaction.atomic():
        task_ids = engine.run(engine.prunable, {TaskStatus.FAILED: 0.0}, limit=9)
        thread.start()
        wait_for(_somebody_waits, what="the rerun waits")
        engine.run(engine.delete, task_ids)
    thread.join(10)
    assert (made, Task.objects.count(), Batch.objects.count()) == ([[]], 0, 0)


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db
def test_what_needs_others_is_cancelled_first_and_run_again_last(factory: Factory) -> None:
    batch_id = opened(factory.owner)
    waits = [factory.pending(batch_id=batch_id, batch_index=index) for index in range(3)]
    assert Batch.objects.get().open_ids() == waits[::-1]
    other = opened(factory.owner)
    failed = [factory.finished(FAILED, batch_id=other, batch_index=index) for index in (1, 0)]
    assert Batch.objects.get(id=other).failed_ids() == failed[::-1]


@pytest.mark.django_db(transaction=True)
def test_what_is_run_again_while_the_batch_is_completed_keeps_it_open(factory: Factory) -> None:
    """A rerun that commits between the sweep's first look, for which it had not happened, and its lock."""
    batch_id = opened(factory.owner)
    factory.finished(batch_id=batch_id, batch_index=0)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=1)
    steps = engine.settle()
    first = next(steps)
    assert isinstance(first, Statement)
    assert "SKIP LOCKED" in first.sql
    rerun(failed)
    second = steps.send([(batch_id,)])
    assert isinstance(second, Statement)
    assert rows(second) == []
    assert Batch.objects.get().completed_at is None


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_somebody_else_holds_is_passed_over(factory: Factory) -> None:
    held, free = opened(factory.owner), opened(factory.owner)
    for batch_id in (held, free):
        factory.finished(batch_id=batch_id, batch_index=0)
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Batch.objects.select_for_update().get(id=held)
                holds.set()
                done.wait(10)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(10)
    try:
        assert settled() == [free]
    finally:
        done.set()
        thread.join()
    assert settled() == [held]


@pytest.mark.django_db(transaction=True)
def test_a_batch_is_pruned_with_its_last_task(factory: Factory) -> None:
    batch_id, forever = opened(factory.owner), opened(factory.owner)
    factory.finished(batch_id=batch_id, batch_index=0)
    factory.finished(FAILED, batch_id=batch_id, batch_index=1)
    factory.finished(batch_id=forever, batch_index=0)
    factory.pending(batch_id=forever, batch_index=1)
    settled()
    assert len(engine.run(engine.prune, {TaskStatus.COMPLETED: 0.0})) == 1, "of one that is open all are kept"
    assert Batch.objects.get(id=batch_id).counts == {"completed": 1, "failed": 1}
    assert Task.objects.filter(batch=batch_id).count() == 1
    engine.run(engine.prune, dict.fromkeys(TERMINAL, 0.0))
    assert [batch.id for batch in Batch.objects.all()] == [forever]


@pytest.mark.django_db(transaction=True)
def test_what_was_deleted_counts_when_the_rest_is_run_again(factory: Factory) -> None:
    batch_id = opened(factory.owner, size=4)
    for index in range(3):
        factory.finished(batch_id=batch_id, batch_index=index)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=3)
    settled()
    for _ in range(3):
        engine.run(engine.prune, {TaskStatus.COMPLETED: 0.0}, limit=1)
    (made,) = rerun(failed)
    assert tally(batch_id) == Tally(counts={"completed": 3, "pending": 1}, progress=3.0)
    admit({Lane.IO: 1})
    factory.write(factory.claim(made.task_id), finish=completed())
    assert settled() == [batch_id]
    assert Batch.objects.get().counts == {"completed": 4}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", range(10))
def test_of_two_sweeps_that_delete_its_last_tasks_one_deletes_the_batch(attempt: int, factory: Factory) -> None:
    batch_id = opened(factory.owner)
    for index in range(2):
        factory.finished(batch_id=batch_id, batch_index=index)
    assert settled() == [batch_id]
    together(*[lambda: engine.run(engine.prune, {TaskStatus.COMPLETED: 0.0}, limit=1)] * 2)
    assert (Task.objects.count(), Batch.objects.count()) == (0, 0)
