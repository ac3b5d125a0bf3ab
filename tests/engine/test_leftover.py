"""Leftovers: tasks that were cancelled while none of their attempts ran, and what these left under way elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import F

from tasks_app import engine
from tasks_app.engine import CheckpointRecord, Finish
from tasks_app.engine.leftover import TAKE
from tasks_app.models import Checkpoint, Outcome, Task
from tasks_app.status import TaskStatus
from tests.factory import Factory

pytestmark = pytest.mark.django_db
RETRIED = Finish(status=TaskStatus.PENDING, outcome=Outcome.RETRIED)
LEFT = CheckpointRecord(name="there", data='{"task_id": "t"}')


def leftovers(*, again_s: float = 60.0, agents: tuple[str, ...] = ("echo",)) -> list[UUID]:
    taken = engine.run(engine.leftovers, agents, name="there", within_s=600.0, again_s=again_s, limit=9)
    assert all(each.data["task_id"] == "t" for each in taken)
    return [each.task_id for each in taken]


def left(factory: Factory) -> UUID:
    """A task that waits for its second attempt, and is cancelled."""
    claim = factory.claimed()
    factory.write(claim, LEFT, finish=RETRIED)
    assert leftovers() == []
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    return claim.task_id


def test_what_was_left_is_taken_once_and_again_after_a_while_until_there_is_an_outcome(factory: Factory) -> None:
    task_id = left(factory)
    assert leftovers(agents=("other",)) == []
    assert (leftovers(), leftovers()) == ([task_id], [])
    engine.run(engine.left, {task_id: ("error", "it was away")}, name="there")
    assert leftovers(again_s=0) == [task_id]
    engine.run(engine.left, {task_id: ("outcome", "cancelled")}, name="there")
    assert leftovers(again_s=0) == []
    assert Checkpoint.objects.get().data["cancel"]["outcome"] == "cancelled"


def test_what_was_cancelled_long_ago_is_left_alone(factory: Factory) -> None:
    left(factory)
    Task.objects.update(completed_at=F("completed_at") - timedelta(minutes=11))
    assert leftovers() == []


def test_the_handler_that_ran_when_its_task_was_cancelled_ends_by_itself_what_it_left(factory: Factory) -> None:
    claim = factory.claimed()
    factory.write(claim, LEFT)
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    assert leftovers() == []


def test_looking_for_leftovers_scans_no_table(factory: Factory) -> None:
    left(factory)
    params: Any = {"agent": ["echo"], "name": "there", "within_s": 600.0, "again_s": 60.0, "limit": 9}
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + TAKE, params)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "task_ended_idx" in plan
    assert "Seq Scan" not in plan
