"""Retries, losses, crashes, deadlines, checkpoints, repeated writes (DESIGN D5, 9.3, 10 «Leases»)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db.models import F
from django.db.models.expressions import RawSQL
from django.utils import timezone

from tasks_app import engine
from tasks_app.engine import CheckpointRecord, Finish, Note, Write
from tasks_app.models import Checkpoint, Outcome, Task, TaskAttempt, TaskEvent, Worker
from tasks_app.status import Lane, TaskStatus
from tests.factory import Factory, admit, completed, generations, lost

pytestmark = pytest.mark.django_db
RETRY = Finish(status=TaskStatus.PENDING, outcome=Outcome.RETRIED, error={"code": "x", "message": "busy"}, wait_s=60)
SNOOZE = Finish(status=TaskStatus.PENDING, outcome=Outcome.SNOOZED, wait_s=60, spend=False)


def again(factory: Factory, task_id: UUID) -> engine.Claim:
    """The next attempt of a task that waits for its time."""
    Task.objects.filter(id=task_id).update(run_after=RawSQL("now()", []))
    admit({Lane.IO: 100, Lane.CPU: 100})
    return factory.claim(task_id)


# retry, snooze ---------------------------------------------------------------------------------------------------


def test_a_retry_waits_for_its_time_and_spends_an_attempt(factory: Factory) -> None:
    claim = factory.claimed()
    assert factory.write(claim, finish=RETRY).accepted
    task, attempt = Task.objects.get(), TaskAttempt.objects.get()
    assert (task.status, task.spent, task.attempt, task.error) == ("pending", 1, 1, None)
    assert task.run_after > timezone.now() + timedelta(seconds=50)
    assert (attempt.outcome, attempt.error) == ("retried", {"code": "x", "message": "busy"})
    assert admit({Lane.IO: 9}) == []
    assert again(factory, task.id).attempt == 2


def test_a_snooze_spends_nothing_however_often(factory: Factory) -> None:
    claim = factory.claimed(max_attempts=1)
    for number in range(2, 6):
        assert factory.write(claim, finish=SNOOZE).accepted
        claim = again(factory, claim.task_id)
        assert (claim.attempt, claim.spent) == (number, 0)
    assert factory.write(claim, finish=completed()).accepted
    assert [a.outcome for a in TaskAttempt.objects.order_by("number")] == ["snoozed"] * 4 + ["completed"]
    assert generations(claim.task_id) == list(range(1, 12))


# repeated writes -------------------------------------------------------------------------------------------------


def test_a_write_repeated_after_a_lost_answer_changes_nothing(factory: Factory) -> None:
    claim = factory.claimed()
    item = Write(task_id=claim.task_id, attempt_id=claim.attempt_id, records=(Note(progress=0.5), Note(progress=0.6)))
    first = engine.run(engine.write, [item])[0]
    second = engine.run(engine.write, [item])[0]
    assert first.accepted
    assert second.accepted
    assert second.generation == first.generation == 4
    end = Write(task_id=claim.task_id, attempt_id=claim.attempt_id, recorded=2, finish=completed())
    assert [engine.run(engine.write, [end])[0].accepted for _ in range(3)] == [True, True, True]
    assert generations(claim.task_id) == [1, 2, 3, 4, 5]


def test_a_finish_that_came_after_a_cancel_is_not_taken_for_a_repeat(factory: Factory) -> None:
    claim = factory.claimed()
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    end = Write(task_id=claim.task_id, attempt_id=claim.attempt_id, finish=completed())
    assert not engine.run(engine.write, [end])[0].accepted
    assert TaskAttempt.objects.get().released_at is not None


# lose ------------------------------------------------------------------------------------------------------------


def test_a_lost_attempt_keeps_its_cause_and_what_it_used(factory: Factory) -> None:
    claim = factory.claimed()
    usage = engine.Usage(peak_rss_bytes=5, cpu_s=1.5, disk_bytes=7)
    item = lost(claim.attempt_id, Outcome.OUT_OF_MEMORY, final=True, usage=usage)
    assert [task.status for task in engine.run(engine.lose, [item])] == ["failed"]
    task, attempt = Task.objects.get(), TaskAttempt.objects.get()
    assert task.error == attempt.error == {"code": "out_of_memory", "message": "a test"}
    assert (attempt.peak_rss_bytes, attempt.cpu_s, attempt.disk_bytes) == (5, 1.5, 7)
    assert engine.run(engine.lose, [item]) == []


def test_what_is_handed_back_costs_no_attempt_and_holds_its_slot_until_released(factory: Factory) -> None:
    claim = factory.claimed(max_attempts=1)
    item = lost(claim.attempt_id, Outcome.HANDED_BACK, spend=False, released=False)
    assert [task.status for task in engine.run(engine.lose, [item])] == ["pending"]
    attempt = TaskAttempt.objects.get()
    assert (attempt.outcome, attempt.released_at) == ("handed_back", None)
    assert not factory.write(claim, finish=completed()).accepted
    assert again(factory, claim.task_id).spent == 0


def test_a_handler_that_kills_its_process_every_time_fails_after_its_attempts(factory: Factory) -> None:
    claim = factory.claimed(max_attempts=3)
    for _ in range(2):
        engine.run(engine.lose, [lost(claim.attempt_id)])
        claim = again(factory, claim.task_id)
    engine.run(engine.lose, [lost(claim.attempt_id)])
    task = Task.objects.get()
    assert (task.status, task.spent, task.error["code"] if task.error else "") == ("failed", 3, "attempts_exhausted")


def test_a_lost_process_waits_longer_each_time_before_it_is_tried_again(factory: Factory) -> None:
    claim = factory.claimed(max_attempts=20)
    Task.objects.update(spent=8)
    engine.run(engine.lose, [lost(claim.attempt_id)])
    waited = (Task.objects.get().run_after - timezone.now()).total_seconds()
    assert -30 < waited <= 60


# crashes of a shared process -------------------------------------------------------------------------------------


def crash(factory: Factory, *claims: engine.Claim) -> None:
    for claim in claims:
        factory.lose_lease(claim)
    engine.run(engine.rescue)


def test_losing_a_process_that_held_several_attempts_charges_a_crash_and_no_attempt(factory: Factory) -> None:
    claims = [factory.claimed(max_attempts=1) for _ in range(3)]
    alone = factory.claimed(max_attempts=3)
    TaskAttempt.objects.filter(id=alone.attempt_id).update(pid=99)
    crash(factory, *claims, alone)
    shared = Task.objects.exclude(id=alone.task_id)
    assert {(task.status, task.spent, task.crashes) for task in shared} == {("pending", 0, 1)}
    task = Task.objects.get(id=alone.task_id)
    assert (task.status, task.spent, task.crashes) == ("pending", 1, 0)


def test_after_two_crashes_a_task_runs_in_a_process_of_its_own_if_there_is_one(factory: Factory) -> None:
    first, second = factory.claimed(), factory.claimed()
    Task.objects.update(crashes=1)
    now = timezone.now()
    cpu = Worker.objects.create(name="cpu", lane=Lane.CPU, pid=1, slots=1, started_at=now, heartbeat_at=now)
    crash(factory, first, second)
    assert {(task.lane, task.crashes, task.spent) for task in Task.objects.all()} == {("cpu", 2, 0)}
    third = again(factory, first.task_id)
    assert third.lane == "cpu"
    cpu.delete()


def test_without_such_a_worker_crashes_are_charged_as_attempts_in_the_end(factory: Factory) -> None:
    first, second = factory.claimed(max_attempts=1), factory.claimed(max_attempts=1)
    Task.objects.update(crashes=2)
    crash(factory, first, second)
    assert {(task.lane, task.status) for task in Task.objects.all()} == {("io", "failed")}


# deadlines -------------------------------------------------------------------------------------------------------


def test_what_did_not_start_before_its_deadline_fails_and_its_hint_starts_nothing(factory: Factory) -> None:
    late, in_time = factory.admitted(start_deadline_s=60), factory.pending(start_deadline_s=60)
    Task.objects.filter(id=late).update(start_deadline_at=F("start_deadline_at") - timedelta(minutes=2))
    assert [task.task_id for task in engine.run(engine.expire)] == [late]
    task = Task.objects.get(id=late)
    assert (task.status, task.error and task.error["code"]) == ("failed", "start_deadline")
    assert Task.objects.get(id=in_time).status == "pending"


def test_what_has_started_once_has_met_its_start_deadline(factory: Factory) -> None:
    claim = factory.claimed(start_deadline_s=60)
    factory.write(claim, finish=RETRY)
    Task.objects.update(start_deadline_at=F("start_deadline_at") - timedelta(minutes=2))
    assert engine.run(engine.expire) == []


def test_a_client_that_does_not_answer_in_time_loses_its_task(factory: Factory) -> None:
    ask = Finish(status=TaskStatus.INPUT_REQUIRED, outcome=Outcome.INTERRUPTED, wait_s=60, spend=False)
    task_id = factory.finished(ask)
    assert engine.run(engine.expire) == []
    Task.objects.update(input_expires_at=F("input_expires_at") - timedelta(minutes=2))
    assert [task.status for task in engine.run(engine.expire)] == ["failed"]
    task = Task.objects.get(id=task_id)
    assert (task.error and task.error["code"], task.input_expires_at) == ("input_expired", None)


# checkpoints -----------------------------------------------------------------------------------------------------


def test_a_new_attempt_starts_from_the_last_fenced_checkpoint(factory: Factory) -> None:
    first = factory.claimed()
    assert first.checkpoints == {}
    factory.write(first, CheckpointRecord(name="page", data='{"n": 1}'), CheckpointRecord(name="page", data='{"n": 2}'))
    factory.write(first, CheckpointRecord(name="other", data="[1]"))
    engine.run(engine.lose, [lost(first.attempt_id)])
    late = Write(
        task_id=first.task_id,
        attempt_id=first.attempt_id,
        recorded=3,
        records=(CheckpointRecord(name="page", data="9"),),
    )
    assert not engine.run(engine.write, [late])[0].accepted
    second = again(factory, first.task_id)
    assert second.checkpoints == {"page": {"n": 2}, "other": [1]}
    kinds = list(TaskEvent.objects.order_by("generation").values_list("kind", flat=True))
    assert kinds == ["status", "status", "checkpoint", "checkpoint", "checkpoint", "status", "status"]
    assert {(c.name, c.generation, c.attempt) for c in Checkpoint.objects.all()} == {("page", 4, 1), ("other", 5, 1)}
    factory.write(second, CheckpointRecord(name="page", data='{"n": 3}'))
    assert Checkpoint.objects.get(name="page").data == {"n": 3}


# extend ----------------------------------------------------------------------------------------------------------


def test_a_handler_that_goes_on_after_a_cancel_keeps_its_slot_as_long_as_its_worker_says_so(factory: Factory) -> None:
    claim = factory.claimed()
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    factory.lose_lease(claim)
    assert engine.run(engine.extend, [claim.attempt_id]) == set()
    TaskAttempt.objects.filter(lease_expires_at__gt=RawSQL("now()", [])).get()
    engine.run(engine.rescue)
    assert TaskAttempt.objects.get().released_at is None


def test_a_worker_hears_which_of_its_attempts_were_ended(factory: Factory) -> None:
    held, cancelled = factory.claimed(), factory.claimed()
    engine.run(engine.request_cancel, [cancelled.task_id], by="a test")
    assert engine.run(engine.fenced, [held.attempt_id, cancelled.attempt_id]) == {cancelled.attempt_id}
