"""Two connections, a barrier, one winner (STYLE 29)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks_app import engine
from tasks_app.engine import Finish, Note, Write
from tasks_app.models import Client, Task, TaskAttempt
from tasks_app.status import TERMINAL, Lane, TaskStatus
from tests.factory import Factory, admit, asks, claim_request, completed, follow_up, generations, lost, new_task

pytestmark = pytest.mark.django_db(transaction=True)


def together(*actions: Callable[[], Any]) -> list[Any]:
    """Runs each action on a thread and connection of its own, all let go at once; their results, in order."""
    barrier = threading.Barrier(len(actions))
    results: list[Any] = [None] * len(actions)
    errors: list[BaseException] = []

    def act(index: int, action: Callable[[], Any]) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=10)
            results[index] = action()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=act, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    if errors:
        raise errors[0]
    return results


@pytest.mark.parametrize("attempt", range(5))
def test_of_two_workers_one_gets_the_task(attempt: int, factory: Factory) -> None:
    task_id = factory.admitted()
    claims = together(*[lambda: engine.run(engine.claim, [claim_request(task_id)])[0] for _ in range(4)])
    assert len([claim for claim in claims if claim is not None]) == 1
    assert TaskAttempt.objects.count() == 1


@pytest.mark.parametrize("attempt", range(5))
def test_a_cancel_and_a_finish_have_one_winner(attempt: int, factory: Factory) -> None:
    claim = factory.claimed()
    cancelled, written = together(
        lambda: engine.run(engine.request_cancel, [claim.task_id], by="its client"),
        lambda: factory.write(claim, Note(progress=0.5), finish=completed()),
    )
    task, ended = Task.objects.get(), TaskAttempt.objects.get()
    assert bool(cancelled) != written.accepted
    assert task.status == ended.outcome == (TaskStatus.CANCELLED if cancelled else TaskStatus.COMPLETED)
    assert task.status in TERMINAL
    assert generations(task.id) == list(range(1, task.generation + 1))


@pytest.mark.parametrize("attempt", range(5))
def test_a_claim_and_a_cancel_leave_no_attempt_that_may_write(attempt: int, factory: Factory) -> None:
    task_id = factory.admitted()
    together(
        lambda: engine.run(engine.claim, [claim_request(task_id)]),
        lambda: engine.run(engine.request_cancel, [task_id], by="its client"),
    )
    assert Task.objects.get().status == TaskStatus.CANCELLED
    assert not TaskAttempt.objects.filter(ended_at=None).exists()


@pytest.mark.parametrize("attempt", range(5))
def test_two_rescues_and_a_finish_agree(attempt: int, factory: Factory) -> None:
    claim = factory.claimed()
    factory.lose_lease(claim)
    first, second, written = together(
        lambda: engine.run(engine.rescue),
        lambda: engine.run(engine.lose, [lost(claim.attempt_id)]),
        lambda: factory.write(claim, finish=completed()),
    )
    assert len(first) + len(second) + written.accepted == 1
    assert generations(claim.task_id) == [1, 2, 3]


@pytest.mark.parametrize("attempt", range(5))
def test_two_dispatchers_admit_each_task_once(attempt: int, factory: Factory) -> None:
    ids = {factory.pending() for _ in range(20)}
    halves = together(*[lambda: admit({Lane.IO: 15}) for _ in range(2)])
    admitted = [hint.task_id for half in halves for hint in half]
    assert len(admitted) == len(set(admitted))
    assert set(admitted) == ids


@pytest.mark.parametrize("attempt", range(5))
def test_the_same_message_from_two_processes_makes_one_task(attempt: int, owner: Client) -> None:
    results = together(*[lambda: engine.run(engine.create, [new_task(owner, message_id="m")])[0] for _ in range(4)])
    assert len({result.task_id for result in results}) == 1
    assert sorted(result.repeated for result in results) == [False, True, True, True]
    assert Task.objects.count() == 1


@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.parametrize("finish", [completed(), asks()])
def test_a_message_and_the_end_of_a_turn_lose_nothing(attempt: int, finish: Finish, factory: Factory) -> None:
    claim = factory.claimed()
    item = follow_up(Task.objects.get())
    delivered, written = together(
        lambda: engine.run(engine.deliver, [item])[0],
        lambda: factory.write(claim, Note(progress=0.5), finish=finish),
    )
    task = Task.objects.get()
    assert written.accepted
    if delivered.accepted:
        assert (task.status, task.consumed_seq, task.inbox_seq) == (TaskStatus.PENDING, 1, 1)
    else:
        assert (delivered.ended, task.status, task.inbox_seq) == (True, TaskStatus.COMPLETED, 0)
    assert generations(task.id) == list(range(1, task.generation + 1))


@pytest.mark.parametrize("attempt", range(5))
def test_the_same_message_twice_at_once_has_one_turn(attempt: int, factory: Factory) -> None:
    item = follow_up(Task.objects.get(id=factory.finished(asks())))
    results = together(*[lambda: engine.run(engine.deliver, [item])[0] for _ in range(4)])
    assert sorted(result.repeated for result in results) == [False, True, True, True]
    assert {result.generation for result in results} == {4}
    assert generations(item.task_id) == [1, 2, 3, 4]


@pytest.mark.parametrize("attempt", range(5))
def test_a_message_and_a_cancel_agree(attempt: int, factory: Factory) -> None:
    item = follow_up(Task.objects.get(id=factory.finished(asks())))
    delivered, cancelled = together(
        lambda: engine.run(engine.deliver, [item])[0],
        lambda: engine.run(engine.request_cancel, [item.task_id], by="its client"),
    )
    assert (len(cancelled), Task.objects.get().status) == (1, TaskStatus.CANCELLED)
    assert delivered.accepted != delivered.ended
    assert generations(item.task_id) == list(range(1, 5 + delivered.accepted))


@pytest.mark.parametrize("attempt", range(5))
def test_of_an_answer_and_the_end_of_its_time_one_wins(attempt: int, factory: Factory) -> None:
    item = follow_up(Task.objects.get(id=factory.finished(asks())))
    Task.objects.update(input_expires_at=timezone.now() - timedelta(seconds=1))
    delivered, expired = together(lambda: engine.run(engine.deliver, [item])[0], lambda: engine.run(engine.expire))
    assert delivered.accepted != bool(expired)
    assert Task.objects.get().status == (TaskStatus.PENDING if delivered.accepted else TaskStatus.FAILED)
    assert generations(item.task_id) == [1, 2, 3, 4]


def test_messages_to_the_same_tasks_in_opposite_order_all_come(factory: Factory) -> None:
    tasks = [Task.objects.get(id=factory.pending()) for _ in range(20)]
    together(
        lambda: [engine.run(engine.deliver, [follow_up(task) for task in tasks]) for _ in range(5)],
        lambda: [engine.run(engine.deliver, [follow_up(task) for task in reversed(tasks)]) for _ in range(5)],
    )
    for task in tasks:
        assert generations(task.id) == list(range(1, 12))


def test_writers_of_the_same_tasks_in_opposite_order_both_finish(factory: Factory) -> None:
    claims = [factory.claimed() for _ in range(30)]

    def items(nth: int) -> list[Write]:
        note = Note(progress=0.5)
        return [Write(task_id=c.task_id, attempt_id=c.attempt_id, recorded=nth, records=(note,)) for c in claims]

    together(
        lambda: [engine.run(engine.write, items(nth)) for nth in range(10)],
        lambda: [engine.run(engine.write, list(reversed(items(nth)))) for nth in range(10)],
    )
    for claim in claims:
        assert generations(claim.task_id) == list(range(1, 13))
