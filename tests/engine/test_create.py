"""create: accepted once, whatever is repeated (DESIGN 9.1; A2A 1.0, section 3.3.1)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DataError, IntegrityError
from django.db.models import F
from django.utils import timezone

from tasks_app import engine
from tasks_app.models import Client, Task, TaskEvent, TaskRequest
from tasks_app.policies import Resources
from tasks_app.status import Lane, Priority
from tests.factory import Factory, admit, new_task

pytestmark = pytest.mark.django_db


def test_a_new_task_has_its_row_its_request_and_its_first_event(owner: Client) -> None:
    item = new_task(owner, parameters={"a": 1}, metadata={"b": [2]}, needs=Resources(memory_mb=3))
    created = engine.run(engine.create, [item])[0]
    task = Task.objects.get(id=created.task_id)
    assert (task.status, task.generation, task.epoch, task.attempt, task.progress) == ("pending", 1, 0, 0, 0.0)
    assert (task.parameters, task.metadata, task.resources) == ({"a": 1}, {"b": [2]}, {"memory_mb": 3})
    assert (task.method, task.created_at) == ("SendMessage", created.created_at)
    assert [message.message_id for message in task.messages] == [item.message_id]
    assert list(TaskEvent.objects.values_list("generation", "kind", "status")) == [(1, "status", "pending")]


def test_the_same_message_again_finds_the_same_task(owner: Client) -> None:
    first, again = new_task(owner, message_id="m"), new_task(owner, message_id="m")
    made, found = engine.run(engine.create, [first])[0], engine.run(engine.create, [again])[0]
    assert (found.task_id, found.repeated, found.conflict) == (made.task_id, True, False)
    assert Task.objects.count() == TaskRequest.objects.count() == TaskEvent.objects.count() == 1


def test_the_same_message_twice_in_one_list_makes_one_task(owner: Client) -> None:
    made, found = engine.run(engine.create, [new_task(owner, message_id="m"), new_task(owner, message_id="m")])
    assert (made.repeated, found.repeated) == (False, True)
    assert made.task_id == found.task_id
    assert Task.objects.count() == 1


def test_another_request_under_a_used_message_id_is_a_conflict(owner: Client) -> None:
    engine.run(engine.create, [new_task(owner, message_id="m")])
    other = engine.run(engine.create, [new_task(owner, message_id="m", priority=Priority.HIGH)])[0]
    assert other.conflict
    assert Task.objects.count() == 1


def test_message_ids_of_two_clients_do_not_meet(owner: Client) -> None:
    stranger = Client.objects.create(name="stranger")
    results = engine.run(engine.create, [new_task(owner, message_id="m"), new_task(stranger, message_id="m")])
    assert not any(result.repeated for result in results)
    assert Task.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_one_bad_item_leaves_nothing_of_its_list_behind() -> None:
    owner = Client.objects.create(name="owner")
    bad = new_task(owner, parameters={"nul": "\x00"})
    with pytest.raises((DataError, IntegrityError)):
        engine.run(engine.create, [new_task(owner), bad])
    assert Task.objects.count() == TaskRequest.objects.count() == TaskEvent.objects.count() == 0


def test_dispatch_order_is_by_priority_then_time_with_ageing(owner: Client, factory: Factory, settings: object) -> None:
    waited = {"low for 31 minutes": (Priority.LOW, 31), "critical now": (Priority.CRITICAL, 0)}
    waited |= {"high for 9 minutes": (Priority.HIGH, 9), "normal now": (Priority.NORMAL, 0)}
    ids = {factory.pending(priority=priority): name for name, (priority, _) in waited.items()}
    for task_id, name in ids.items():
        Task.objects.filter(id=task_id).update(run_after=F("run_after") - timedelta(minutes=waited[name][1]))
    ordered = [ids[hint.task_id] for hint in admit({Lane.IO: 9})]
    assert ordered == ["low for 31 minutes", "critical now", "high for 9 minutes", "normal now"]


def test_a_start_in_the_past_does_not_overtake(factory: Factory) -> None:
    past = factory.pending(priority=Priority.LOW, run_after=timezone.now() - timedelta(days=3650))
    now = factory.pending(priority=Priority.LOW)
    assert Task.objects.get(id=past).run_after == Task.objects.get(id=past).created_at
    assert [hint.task_id for hint in admit({Lane.IO: 9})] == [past, now]
