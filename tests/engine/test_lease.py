"""admit, claim, extend, write, rescue: leases and fences (DESIGN D4, D5, 9.2–9.5, 10)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone

from artifacts_app.models import Artifact, ArtifactChunk
from tasks_app import engine
from tasks_app.engine import ArtifactRecord, Chunk, Finish, Note, Offer
from tasks_app.models import Outcome, SweepTick, Task, TaskAttempt, TaskEvent
from tasks_app.policies import Resources
from tasks_app.status import Lane, Priority, TaskStatus
from tests.factory import Factory, admit, claim_request, completed, generations, lost

pytestmark = pytest.mark.django_db


def artifact(name: str, *contents: bytes) -> ArtifactRecord:
    chunks = tuple(Chunk(kind="raw", content=content, media_type="image/png") for content in contents)
    return ArtifactRecord(artifact_id=name, name=name, chunks=chunks, event=b"")


# admit -----------------------------------------------------------------------------------------------------------


def test_admission_takes_the_most_urgent_and_no_more_than_there_is_room_for(factory: Factory) -> None:
    low, critical = factory.pending(priority=Priority.LOW), factory.pending(priority=Priority.CRITICAL)
    normal = factory.pending()
    hints = admit({Lane.IO: 2})
    assert [hint.task_id for hint in hints] == [critical, normal]
    assert [hint.task_id for hint in admit({Lane.IO: 9})] == [low]
    assert admit({Lane.IO: 9}) == []


def test_a_task_is_not_admitted_before_its_time(factory: Factory) -> None:
    factory.pending(run_after=timezone.now() + timedelta(minutes=1))
    assert admit({Lane.IO: 9}) == []


def test_what_nobody_claims_is_published_again_with_the_same_epoch(factory: Factory) -> None:
    task_id = factory.admitted()
    assert engine.run(engine.republish) == []
    Task.objects.update(republish_at=timezone.now() - timedelta(hours=1))
    again = engine.run(engine.republish)
    assert [(hint.task_id, hint.epoch) for hint in again] == [(task_id, 0)]
    task = Task.objects.get()
    assert task.publishes == 2
    assert task.republish_at is not None
    assert task.republish_at > timezone.now() + timedelta(seconds=3)


# claim -----------------------------------------------------------------------------------------------------------


def test_a_claim_starts_the_task_and_leaves_an_attempt_with_a_lease(factory: Factory) -> None:
    claim = factory.claimed()
    task, attempt = Task.objects.get(), TaskAttempt.objects.get()
    assert (task.status, task.attempt, task.epoch, task.generation) == ("running", 1, 1, 2)
    assert task.lease_id == attempt.id == claim.attempt_id
    assert task.started_at is not None
    assert task.timeout_at == task.started_at + timedelta(seconds=60)
    assert attempt.lease_expires_at > timezone.now()
    assert (task.admitted_at, attempt.ended_at, attempt.outcome) == (None, None, None)


def test_a_message_delivered_a_hundred_times_starts_the_task_once(factory: Factory) -> None:
    task_id = factory.admitted()
    requests = [claim_request(task_id) for _ in range(100)]
    first = engine.run(engine.claim, requests[:50])
    second = engine.run(engine.claim, requests[50:])
    assert len([claim for claim in first + second if claim is not None]) == 1
    assert TaskAttempt.objects.count() == 1


def test_the_same_execution_asking_again_gets_the_same_claim(factory: Factory) -> None:
    request = claim_request(factory.admitted())
    first = engine.run(engine.claim, [request])
    assert first[0] is not None
    assert engine.run(engine.claim, [request]) == first
    assert TaskAttempt.objects.count() == 1


def test_nobody_claims_what_was_not_admitted_or_is_of_another_epoch(factory: Factory) -> None:
    assert engine.run(engine.claim, [claim_request(factory.pending())]) == [None]
    assert engine.run(engine.claim, [claim_request(factory.admitted(), epoch=7)]) == [None]
    assert engine.run(engine.claim, [claim_request(uuid4())]) == [None]


def test_a_worker_that_lacks_the_agent_or_the_room_sends_the_task_back(factory: Factory) -> None:
    big = factory.admitted(needs=Resources(memory_mb=500))
    small = Offer(agents=("echo",), free=Resources(memory_mb=499))
    assert engine.run(engine.claim, [claim_request(big)], offer=small) == [None]
    task = Task.objects.get()
    assert (task.status, task.admitted_at, task.epoch, task.attempt) == ("pending", None, 1, 0)
    admit({Lane.IO: 1})
    other = Offer(agents=("sleep",))
    assert engine.run(engine.claim, [claim_request(big, epoch=1)], offer=other) == [None]
    assert [hint.epoch for hint in admit({Lane.IO: 1})] == [2]
    enough = Offer(agents=("echo",), free=Resources(memory_mb=500))
    claims = engine.run(engine.claim, [claim_request(big, epoch=2)], offer=enough)
    assert claims[0] is not None
    assert claims[0].resources == Resources(memory_mb=500)


# extend ----------------------------------------------------------------------------------------------------------


def test_extending_revives_an_expired_lease_that_nobody_rescued(factory: Factory) -> None:
    claim = factory.claimed()
    factory.lose_lease(claim)
    assert engine.run(engine.extend, [claim.attempt_id, uuid4()]) == {claim.attempt_id}
    engine.run(engine.rescue)
    assert Task.objects.get().status == TaskStatus.RUNNING


# write -----------------------------------------------------------------------------------------------------------


def test_records_and_the_finish_are_one_write_with_generations_in_order(factory: Factory) -> None:
    claim = factory.claimed()
    written = factory.write(
        claim, Note(progress=0.25), artifact("a", b"12", b"3"), Note(progress=0.75), finish=completed()
    )
    assert (written.accepted, written.generation) == (True, 6)
    events = TaskEvent.objects.order_by("generation").values_list("kind", "progress")
    assert list(events)[2:] == [("progress", 0.25), ("artifact", 0.25), ("progress", 0.75), ("status", 1.0)]
    assert generations(claim.task_id) == [1, 2, 3, 4, 5, 6]
    task, attempt = Task.objects.get(), TaskAttempt.objects.get()
    assert (task.status, task.progress, task.lease_id) == ("completed", 1.0, None)
    assert task.completed_at == attempt.ended_at == attempt.released_at
    kept = Artifact.objects.get()
    assert (kept.size_bytes, kept.type, kept.generation) == (3, "image/png", 4)
    assert [bytes(chunk.content or b"") for chunk in ArtifactChunk.objects.order_by("position")] == [b"12", b"3"]


def test_progress_never_goes_back_within_an_attempt(factory: Factory) -> None:
    claim = factory.claimed()
    factory.write(claim, Note(progress=0.5))
    factory.write(claim, Note(progress=0.2))
    assert Task.objects.get().progress == 0.5


def test_a_failed_attempt_keeps_its_error_and_traceback(factory: Factory) -> None:
    error = {"code": "no_pixels", "message": "the file has no pixels"}
    finish = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error=error, traceback="line 1")
    factory.finished(finish)
    task, attempt = Task.objects.get(), TaskAttempt.objects.get()
    assert (task.status, task.error, attempt.error, attempt.traceback) == ("failed", error, error, "line 1")


def test_a_later_attempt_replaces_an_artifact_of_the_same_id(factory: Factory) -> None:
    first = factory.claimed()
    factory.write(first, artifact("a", b"old"))
    factory.lose_lease(first)
    engine.run(engine.rescue)
    admit({Lane.IO: 1})
    factory.write(factory.claim(first.task_id), artifact("a", b"newer"), finish=completed())
    kept = Artifact.objects.get()
    assert kept.size_bytes == 5
    current = ArtifactChunk.objects.filter(task_id=kept.task_id, generation=kept.generation)
    assert [bytes(chunk.content or b"") for chunk in current] == [b"newer"]


# rescue ----------------------------------------------------------------------------------------------------------


def test_an_expired_lease_is_rescued_and_the_late_worker_changes_nothing(factory: Factory) -> None:
    claim = factory.claimed()
    factory.lose_lease(claim)
    rescued = engine.run(engine.rescue)
    assert [(task.task_id, task.status) for task in rescued] == [(claim.task_id, TaskStatus.PENDING)]
    before = generations(claim.task_id)
    assert not factory.write(claim, Note(progress=0.9), artifact("a", b"x"), finish=completed()).accepted
    assert engine.run(engine.extend, [claim.attempt_id]) == set()
    assert generations(claim.task_id) == before
    assert Artifact.objects.count() == 0
    attempt = TaskAttempt.objects.get()
    assert attempt.outcome == "lease_expired"
    assert attempt.error == {"code": "lease_expired", "message": "its worker did not extend the lease in time"}
    assert Task.objects.get().status == TaskStatus.PENDING


def test_a_rescued_task_runs_again_under_a_new_epoch_and_an_old_hint_does_not_start_it(factory: Factory) -> None:
    claim = factory.claimed()
    factory.lose_lease(claim)
    engine.run(engine.rescue)
    assert [hint.epoch for hint in admit({Lane.IO: 1})] == [2]
    assert engine.run(engine.claim, [claim_request(claim.task_id, epoch=0)]) == [None]
    assert factory.claim(claim.task_id).attempt == 2


def test_a_late_worker_writes_nothing_into_the_attempt_that_runs_by_now(factory: Factory) -> None:
    late = factory.claimed()
    factory.lose_lease(late)
    engine.run(engine.rescue)
    admit({Lane.IO: 1})
    now = factory.claim(late.task_id)
    assert not factory.write(late, finish=completed()).accepted
    task = Task.objects.get()
    assert (task.status, task.lease_id, task.recorded) == (TaskStatus.RUNNING, now.attempt_id, 0)
    assert factory.write(now, finish=completed()).accepted


def test_a_task_that_lost_all_its_attempts_fails_and_says_so(factory: Factory) -> None:
    claim = factory.claimed(max_attempts=1)
    factory.lose_lease(claim)
    engine.run(engine.rescue)
    task = Task.objects.get()
    assert task.status == TaskStatus.FAILED
    assert task.error is not None
    assert task.error["code"] == "attempts_exhausted"
    assert task.completed_at is not None


def test_a_dead_process_is_rescued_at_once_by_its_attempt(factory: Factory) -> None:
    claim, other = factory.claimed(), factory.claimed()
    engine.run(engine.lose, [lost(claim.attempt_id)])
    assert Task.objects.get(id=claim.task_id).status == TaskStatus.PENDING
    assert Task.objects.get(id=other.task_id).status == TaskStatus.RUNNING
    assert TaskAttempt.objects.get(id=claim.attempt_id).outcome == Outcome.PROCESS_LOST


def test_after_a_gap_the_sweep_waits_one_lease_before_it_judges(factory: Factory) -> None:
    assert engine.run(engine.tick)
    SweepTick.objects.update(last_at=timezone.now() - timedelta(minutes=5))
    assert engine.run(engine.sweep_is_late)
    assert not engine.run(engine.tick)
    assert not engine.run(engine.tick)
    SweepTick.objects.update(hold_until=timezone.now() - timedelta(hours=1))
    assert engine.run(engine.tick)
    assert not engine.run(engine.sweep_is_late)


# expire ----------------------------------------------------------------------------------------------------------


def test_what_nobody_extended_past_its_timeout_is_rescued_and_not_blamed(factory: Factory) -> None:
    claim = factory.claimed()
    factory.lose_lease(claim)
    run_late(claim.task_id, timedelta(hours=1))
    assert engine.run(engine.expire) == []
    assert [task.status for task in engine.run(engine.rescue)] == [TaskStatus.PENDING]


def test_hints_that_the_broker_refused_are_due_again_without_a_longer_interval(factory: Factory) -> None:
    task_id = factory.admitted()
    Task.objects.update(republish_at=timezone.now() + timedelta(minutes=1), publishes=9)
    engine.run(engine.unpublished, [task_id])
    task = Task.objects.get()
    assert task.publishes == 0
    assert task.republish_at is not None
    assert task.republish_at < timezone.now() + timedelta(seconds=10)


def run_late(task_id: UUID, by: timedelta) -> None:
    Task.objects.filter(id=task_id).update(timeout_at=timezone.now() - by)


def test_an_attempt_past_its_timeout_fails_and_is_fenced_and_keeps_its_slot_until_it_stops(factory: Factory) -> None:
    claim, other = factory.claimed(), factory.claimed()
    run_late(claim.task_id, timedelta(hours=1))
    assert [task.task_id for task in engine.run(engine.expire)] == [claim.task_id]
    task, attempt = Task.objects.get(id=claim.task_id), TaskAttempt.objects.get(id=claim.attempt_id)
    assert (task.status, task.timeout_at) == (TaskStatus.FAILED, None)
    assert (attempt.outcome, attempt.released_at) == ("timed_out", None)
    assert task.error == attempt.error
    assert not factory.write(claim, finish=completed()).accepted
    assert Task.objects.get(id=other.task_id).status == TaskStatus.RUNNING
    assert generations(claim.task_id) == [1, 2, 3]


def test_a_process_killed_for_running_too_long_does_not_run_its_task_again(factory: Factory) -> None:
    late, in_time = factory.claimed(), factory.claimed()
    run_late(late.task_id, timedelta(seconds=1))
    ids = [late.attempt_id, in_time.attempt_id]
    moved = engine.run(engine.lose, [lost(attempt_id) for attempt_id in ids])
    assert {task.task_id: task.status for task in moved} == {
        late.task_id: TaskStatus.FAILED,
        in_time.task_id: TaskStatus.PENDING,
    }
    assert Task.objects.get(id=late.task_id).error == {
        "code": "timeout",
        "message": "ran longer than its timeout, and was killed",
    }
    assert TaskAttempt.objects.get(id=late.attempt_id).outcome == Outcome.TIMED_OUT


# cancel ----------------------------------------------------------------------------------------------------------


def test_a_cancel_fences_the_attempt_at_once_and_keeps_its_slot_until_it_stops(factory: Factory) -> None:
    claim = factory.claimed()
    cancelled = engine.run(engine.request_cancel, [claim.task_id], by="its client")
    assert [(task.task_id, task.worker) for task in cancelled] == [(claim.task_id, "worker-1")]
    attempt = TaskAttempt.objects.get()
    assert (attempt.outcome, attempt.released_at) == ("cancelled", None)
    assert not factory.write(claim, Note(progress=0.9)).accepted
    assert not factory.write(claim, finish=completed()).accepted
    attempt.refresh_from_db()
    assert attempt.released_at is not None
    assert Task.objects.get().status == TaskStatus.CANCELLED


def test_a_cancelled_attempt_whose_worker_is_gone_frees_its_slot_after_the_lease(factory: Factory) -> None:
    claim = factory.claimed()
    engine.run(engine.request_cancel, [claim.task_id], by="its client")
    TaskAttempt.objects.update(lease_expires_at=timezone.now() - timedelta(hours=1))
    engine.run(engine.rescue)
    assert TaskAttempt.objects.get().released_at is not None


def test_cancelling_many_cancels_those_that_had_not_ended(factory: Factory) -> None:
    pending, done = factory.pending(), factory.finished()
    cancelled = engine.run(engine.request_cancel, [done, pending, uuid4()], by="its client")
    assert [task.task_id for task in cancelled] == [pending]
    assert generations(pending) == [1, 2]
    assert engine.run(engine.request_cancel, [pending], by="its client") == []


def test_the_hot_updates_stay_hot(factory: Factory) -> None:
    claim = factory.claimed()
    for step in range(1, 50):
        factory.write(claim, Note(progress=step / 50))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT string_agg(indexdef, ' ') FROM pg_indexes WHERE tablename = 'tasks_app_task'")
        definitions = cursor.fetchone()[0]
    for column in ("progress", "updated_at", "lease_id", "generation", "timeout_at"):
        assert column not in definitions
