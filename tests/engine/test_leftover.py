"""Leftovers: tasks that were cancelled while none of their attempts ran, and what these left under way elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from tasks_app import engine
from tasks_app.engine import CheckpointRecord, Finish, Lost
from tasks_app.engine.leftover import CODES, TAKE
from tasks_app.models import Checkpoint, Outcome, Task, TaskAttempt
from tasks_app.status import TaskStatus
from tests.factory import Factory

pytestmark = pytest.mark.django_db
RETRIED = Finish(status=TaskStatus.PENDING, outcome=Outcome.RETRIED)
OWN = {"code": "agent_error", "message": "its own"}
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


def test_a_handler_that_died_while_its_task_was_cancelled_ended_nothing(factory: Factory) -> None:
    claim = factory.claimed()
    factory.write(claim, LEFT)
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    TaskAttempt.objects.update(lease_expires_at=Now() - timedelta(hours=1))
    assert leftovers() == []
    engine.run(engine.rescue)  # nobody says any more that it holds its slot
    assert leftovers() == [claim.task_id]


def test_nor_did_one_whose_worker_left_without_it(factory: Factory) -> None:
    claim = factory.claimed()
    factory.write(claim, LEFT)
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    engine.run(engine.release, [claim.attempt_id], died=True)
    assert leftovers() == [claim.task_id]


def test_one_that_has_stopped_ended_what_it_left(factory: Factory) -> None:
    claim = factory.claimed()
    factory.write(claim, LEFT)
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    engine.run(engine.release, [claim.attempt_id])
    assert leftovers() == []


def test_nor_did_one_of_a_task_that_failed_while_it_waited_or_with_its_last_process(factory: Factory) -> None:
    asked = factory.claimed()
    factory.write(asked, LEFT, finish=Finish(status=TaskStatus.INPUT_REQUIRED, outcome=Outcome.INTERRUPTED, wait_s=9))
    Task.objects.update(input_expires_at=Now() - timedelta(seconds=1))
    lost = factory.claimed(max_attempts=1)
    factory.write(lost, LEFT)
    engine.run(engine.lose, [Lost(attempt_id=lost.attempt_id, outcome=Outcome.PROCESS_LOST, code="x", message="x")])
    engine.run(engine.expire)
    assert Task.objects.filter(status=TaskStatus.FAILED).count() == 2
    assert set(leftovers()) == {asked.task_id, lost.task_id}


def test_a_handler_that_failed_by_itself_left_nothing(factory: Factory) -> None:
    claim = factory.claimed()
    factory.write(claim, LEFT, finish=Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error=OWN))
    assert leftovers() == []


def test_looking_for_leftovers_scans_no_table(factory: Factory) -> None:
    left(factory)
    params: Any = {"agent": ["echo"], "name": "there", "within_s": 600.0, "again_s": 60.0, "limit": 9}
    params["codes"] = list(CODES)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + TAKE, params)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "ended_idx" in plan
    assert "Seq Scan" not in plan
