"""reschedule, rerun, create_within, prune."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db.models import F
from django.utils import timezone

from artifacts_app.models import Artifact, ArtifactChunk
from tasks_app import agents, engine, retention
from tasks_app.engine import Created
from tasks_app.models import Checkpoint, Client, Outcome, Task, TaskAttempt, TaskEvent, TaskRequest
from tasks_app.policies import Resources
from tasks_app.status import Lane, Priority, TaskStatus
from tests.engine.test_lease import artifact
from tests.engine.test_races import together
from tests.factory import Factory, admit, claim_request, completed, lost, new_task

LANES = {"echo": Lane.IO}


@pytest.mark.django_db
def test_what_is_pending_gets_another_priority_and_its_old_hint_starts_nothing(factory: Factory) -> None:
    task_id, running = factory.admitted(priority=Priority.LOW), factory.claimed()
    changed = engine.run(engine.reschedule, [task_id, running.task_id], priority=Priority.CRITICAL)
    assert changed == [task_id]
    assert engine.run(engine.claim, [claim_request(task_id, epoch=0)]) == [None]
    hint = admit({Lane.IO: 9})[0]
    assert (hint.task_id, hint.epoch, hint.priority) == (task_id, 1, Priority.CRITICAL)


@pytest.mark.django_db
def test_what_is_pending_gets_another_time_which_is_never_in_the_past(factory: Factory) -> None:
    task_id = factory.pending()
    later = timezone.now() + timedelta(hours=1)
    engine.run(engine.reschedule, [task_id], run_after=later)
    assert Task.objects.get().run_after == later
    assert admit({Lane.IO: 9}) == []
    engine.run(engine.reschedule, [task_id], run_after=timezone.now() - timedelta(days=900))
    assert timezone.now() - Task.objects.get().run_after < timedelta(minutes=1)
    assert [hint.task_id for hint in admit({Lane.IO: 9})] == [task_id]


@pytest.mark.django_db
def test_the_start_deadline_goes_with_the_time(factory: Factory) -> None:
    task_id, free = factory.pending(start_deadline_s=60.0), factory.pending()
    later = timezone.now() + timedelta(hours=1)
    engine.run(engine.reschedule, [task_id, free], run_after=later)
    assert Task.objects.get(id=task_id).start_deadline_at == later + timedelta(seconds=60)
    assert Task.objects.get(id=free).start_deadline_at is None
    engine.run(engine.reschedule, [task_id], priority=Priority.HIGH)
    assert Task.objects.get(id=task_id).start_deadline_at == later + timedelta(seconds=60)


@pytest.mark.django_db
def test_a_rerun_is_a_new_task_that_names_the_old_one(factory: Factory) -> None:
    needs = Resources(memory_mb=5, cpu_s=2.5)
    claim = factory.claimed(parameters={"a": 1}, metadata={"b": 2}, priority=Priority.HIGH, needs=needs, max_attempts=1)
    engine.run(engine.lose, [lost(claim.attempt_id)])
    pending = factory.pending()
    created = engine.run(engine.rerun, [claim.task_id, pending], lanes=LANES)
    assert [item.repeated for item in created] == [False]
    old, new = Task.objects.get(id=claim.task_id), Task.objects.get(id=created[0].task_id)
    assert (new.rerun_of_id, new.status, new.priority, new.memory_mb) == (old.id, "pending", Priority.HIGH, 5)
    assert (new.parameters, new.metadata, new.resources) == ({"a": 1}, {"b": 2}, {"memory_mb": 5, "cpu_s": 2.5})
    assert new.messages[0].parts == old.messages[0].parts
    assert (old.status, old.attempt, new.attempt, new.spent) == ("failed", 1, 0, 0)


@pytest.mark.django_db
def test_a_task_whose_agent_is_gone_is_not_run_again(factory: Factory) -> None:
    assert engine.run(engine.rerun, [factory.finished()], lanes={}) == []


# How many may wait -----------------------------------------------------------------------------------------------


def submit(owner: Client, count: int, limit: int | None, **fields: str) -> list[Created]:
    items = [new_task(owner, max_queued=limit, **fields) for _ in range(count)]
    return engine.run(engine.create_within, items)


@pytest.mark.django_db
def test_a_client_may_have_so_many_waiting_and_no_more(owner: Client, factory: Factory) -> None:
    first = submit(owner, 5, 3)
    assert [item.refused for item in first] == [False, False, False, True, True]
    assert Task.objects.count() == 3
    running = factory.claim(admit({Lane.IO: 1})[0].task_id)
    assert [item.refused for item in submit(owner, 2, 3)] == [False, True]
    other = Client.objects.create(name="other")
    assert [item.refused for item in submit(other, 2, None)] == [False, False]
    assert Task.objects.get(id=running.task_id).status == "running"


@pytest.mark.django_db
def test_a_rerun_counts_among_what_may_wait(factory: Factory) -> None:
    ended = factory.finished()
    factory.pending()
    refused, accepted = (engine.run(engine.rerun, [ended], lanes=LANES, max_queued=limit)[0] for limit in (1, 2))
    assert (refused.refused, accepted.refused) == (True, False)
    assert [task.id for task in Task.objects.filter(rerun_of=ended)] == [accepted.task_id]


@pytest.mark.django_db
def test_a_repeat_takes_no_place_from_a_new_task_beside_it(owner: Client) -> None:
    submit(owner, 1, 2, message_id="m")
    items = [new_task(owner, max_queued=2, **fields) for fields in ({"message_id": "m"}, {}, {})]
    made = engine.run(engine.create_within, items)
    assert [(item.repeated, item.refused) for item in made] == [(True, False), (False, False), (False, True)]
    assert Task.objects.count() == 2


@pytest.mark.django_db
def test_a_message_sent_again_is_no_new_task_even_where_no_more_may_wait(owner: Client) -> None:
    first = submit(owner, 1, 1, message_id="m")[0]
    again = submit(owner, 1, 1, message_id="m")[0]
    assert (again.task_id, again.repeated, again.refused) == (first.task_id, True, False)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", range(3))
def test_two_webs_together_let_no_more_wait(attempt: int, owner: Client) -> None:
    together(*[lambda: [submit(owner, 3, 10) for _ in range(4)] for _ in range(3)])
    assert Task.objects.count() == 10


# prune -----------------------------------------------------------------------------------------------------------


KEEP = {TaskStatus.COMPLETED: 86_400.0, TaskStatus.FAILED: 10 * 86_400.0}


def ended_days_ago(task_id: UUID, days: float) -> None:
    Task.objects.filter(id=task_id).update(completed_at=F("completed_at") - timedelta(days=days))


@pytest.mark.django_db
def test_old_tasks_go_with_all_that_belongs_to_them_and_young_ones_stay(factory: Factory) -> None:
    claim = factory.claimed()
    factory.write(claim, artifact("a", b"1"), engine.CheckpointRecord(name="c", data="1"), finish=completed())
    ended_days_ago(claim.task_id, 2)
    young, pending = factory.finished(), factory.pending()
    rerun = engine.run(engine.rerun, [claim.task_id], lanes=LANES)[0].task_id
    assert engine.run(engine.prune, KEEP) == [claim.task_id]
    assert set(Task.objects.values_list("id", flat=True)) == {young, pending, rerun}
    assert Task.objects.get(id=rerun).rerun_of_id is None
    for model in (TaskEvent, TaskAttempt, TaskRequest, Checkpoint, Artifact, ArtifactChunk):
        assert not model._default_manager.filter(task_id=claim.task_id).exists(), model
    assert engine.run(engine.prune, KEEP) == []


@pytest.mark.django_db
def test_each_state_is_kept_as_long_as_it_says_and_what_is_not_named_for_ever(factory: Factory) -> None:
    failed = factory.finished(engine.Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED))
    done, cancelled = factory.finished(), factory.in_state(TaskStatus.CANCELLED)
    for task_id in (failed, done, cancelled):
        ended_days_ago(task_id, 5)
    assert engine.run(engine.prune, KEEP) == [done]
    ended_days_ago(failed, 6)
    assert engine.run(engine.prune, KEEP) == [failed]
    assert Task.objects.get().id == cancelled


@pytest.mark.django_db
def test_a_task_whose_handler_still_runs_is_not_pruned(factory: Factory) -> None:
    claim = factory.claimed()
    engine.run(engine.request_cancel, [claim.task_id], by="a test")
    ended_days_ago(claim.task_id, 9)
    assert engine.run(engine.prune, {TaskStatus.CANCELLED: 60.0}) == []
    engine.run(engine.release, [claim.attempt_id])
    assert engine.run(engine.prune, {TaskStatus.CANCELLED: 60.0}) == [claim.task_id]


@pytest.mark.django_db
def test_the_sweep_keeps_what_the_settings_say(factory: Factory, settings: Any) -> None:
    failed = factory.finished(engine.Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED))
    done = factory.finished()
    for task_id in (failed, done):
        ended_days_ago(task_id, 40)
    settings.A2A_KEEP_DAYS = 0
    assert retention.prune() == 0
    settings.A2A_KEEP_DAYS = 30
    assert retention.prune() == 1
    assert Task.objects.get().id == failed
    settings.A2A_KEEP_FAILED_DAYS = 39
    assert (retention.prune(), retention.prune()) == (1, 0)


@pytest.mark.django_db
def test_an_agent_may_keep_its_tasks_for_longer_or_shorter(factory: Factory, settings: Any) -> None:
    settings.A2A_KEEP_DAYS = settings.A2A_KEEP_FAILED_DAYS = 30
    keeps = {
        "keeps-all": {"keep_days": 0, "keep_failed_days": 0},
        "keeps-long": {"keep_days": 100},
        "keeps-short": {"keep_days": 5, "keep_failed_days": 50},
    }
    for name, said in keeps.items():
        agents.agent(name, lane="io", description="Ends.", **said)(print)
    ended = {}
    for name in ("echo", *keeps):
        for days in (10, 40):
            for status in (TaskStatus.COMPLETED, TaskStatus.FAILED):
                outcome = Outcome.COMPLETED if status == TaskStatus.COMPLETED else Outcome.FAILED
                task_id = factory.finished(engine.Finish(status=status, outcome=outcome), agent=name)
                ended_days_ago(task_id, days)
                ended[task_id] = (name, days, status)
    try:
        retention.prune()
    finally:
        for name in keeps:
            agents._registry.pop(name)
    gone = {ended[task_id] for task_id in ended.keys() - set(Task.objects.values_list("id", flat=True))}
    assert gone == {
        ("echo", 40, TaskStatus.COMPLETED),
        ("echo", 40, TaskStatus.FAILED),
        ("keeps-long", 40, TaskStatus.FAILED),
        ("keeps-short", 10, TaskStatus.COMPLETED),
        ("keeps-short", 40, TaskStatus.COMPLETED),
    }


@pytest.mark.django_db(transaction=True)
def test_two_prunes_at_once_take_each_task_once(factory: Factory) -> None:
    ids = {factory.finished() for _ in range(30)}
    Task.objects.update(completed_at=F("completed_at") - timedelta(days=5))
    halves = together(*[lambda: engine.run(engine.prune, KEEP, limit=20) for _ in range(3)])
    pruned = [task_id for half in halves for task_id in half]
    assert len(pruned) == len(set(pruned))
    while more := engine.run(engine.prune, KEEP, limit=20):
        pruned += more
    assert set(pruned) == ids
