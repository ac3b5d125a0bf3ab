"""Turns: follow-up messages, one at a time, none lost (DESIGN 10 «Streams and turns», A2A 1.0 section 3.4.3)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from a2a.types import Message, Part, TaskState
from django.db import DataError
from django.db.models.expressions import RawSQL
from django.utils import timezone

from tasks_app import engine, reads
from tasks_app.a2a import wire
from tasks_app.engine import CheckpointRecord, Claim, Finish, Note, Write
from tasks_app.models import Client, InboxMessage, Outcome, Task, TaskAttempt, TaskEvent
from tasks_app.status import INTERRUPTED, Lane, TaskStatus
from tests.factory import Factory, admit, asks, claim_request, completed, follow_up, generations, lost

pytestmark = pytest.mark.django_db
RETRY = Finish(status=TaskStatus.PENDING, outcome=Outcome.RETRIED)
FAILED = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error={"code": "x", "message": "broken"})


def said(text: str) -> bytes:
    return bytes(Message(message_id=text, parts=[Part(text=text)]).SerializeToString())


def text(message: bytes | memoryview | None) -> str:
    assert message is not None
    return str(Message.FromString(bytes(message)).parts[0].text)


def next_turn(factory: Factory, task_id: UUID) -> Claim:
    Task.objects.filter(id=task_id).update(run_after=RawSQL("now()", []))
    admit({Lane.IO: 100, Lane.CPU: 100})
    return factory.claim(task_id)


# deliver ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(INTERRUPTED))
def test_an_answer_lets_a_task_run_again_with_all_its_attempts(status: TaskStatus, factory: Factory) -> None:
    claim = factory.claimed(max_attempts=2)
    factory.write(claim, finish=RETRY)
    factory.write(next_turn(factory, claim.task_id), finish=asks(status, said("which one?")))
    Task.objects.update(crashes=1)
    delivered = factory.deliver(claim.task_id, "the left one")
    task = Task.objects.get()
    assert (delivered.accepted, delivered.generation, delivered.status) == (True, 6, TaskStatus.PENDING)
    assert (delivered.lane, delivered.agent, delivered.client_id) == ("io", "echo", factory.owner.pk)
    assert (task.status, task.generation, task.inbox_seq, task.consumed_seq) == ("pending", 6, 1, 1)
    assert (task.spent, task.crashes, task.input_expires_at, task.status_message) == (0, 0, None, None)
    event = TaskEvent.objects.get(generation=6)
    assert (event.kind, event.status, event.attempt, text(event.payload)) == ("message", "pending", 0, "the left one")
    again = next_turn(factory, claim.task_id)
    assert (again.turn, again.attempt, again.spent, text(again.message)) == (2, 3, 0, "the left one")


@pytest.mark.parametrize("started", [False, True])
def test_a_message_to_a_task_that_is_busy_waits_for_its_turn(started: bool, factory: Factory) -> None:
    task_id = factory.claimed().task_id if started else factory.pending()
    before = Task.objects.get()
    delivered = factory.deliver(task_id)
    task = Task.objects.get()
    assert (delivered.accepted, delivered.status) == (True, before.status)
    assert (task.status, task.status_at, task.lease_id) == (before.status, before.status_at, before.lease_id)
    assert (task.inbox_seq, task.consumed_seq, task.epoch) == (1, 0, before.epoch)


def test_several_messages_at_once_have_generations_without_a_gap(factory: Factory) -> None:
    one, other = factory.finished(asks()), factory.pending()
    tasks = {task.id: task for task in Task.objects.all()}
    items = [follow_up(tasks[task_id], str(n)) for n, task_id in enumerate([one, other, one, other, one])]
    delivered = engine.run(engine.deliver, items)
    assert [(item.task_id, item.generation) for item in delivered] == [
        (one, 4),
        (other, 2),
        (one, 5),
        (other, 3),
        (one, 6),
    ]
    assert generations(one) == [1, 2, 3, 4, 5, 6]
    assert generations(other) == [1, 2, 3]
    task = Task.objects.get(id=one)
    assert (task.status, task.inbox_seq, task.consumed_seq) == ("pending", 3, 1)
    assert list(InboxMessage.objects.filter(task_id=one).order_by("seq").values_list("seq", "generation")) == [
        (1, 4),
        (2, 5),
        (3, 6),
    ]


def test_the_same_message_again_changes_nothing_even_when_the_task_has_ended(factory: Factory) -> None:
    task = Task.objects.get(id=factory.finished(asks()))
    item = follow_up(task)
    first, twice = engine.run(engine.deliver, [item, item])
    assert (first.repeated, twice.repeated, twice.accepted, twice.generation) == (False, True, True, first.generation)
    factory.write(next_turn(factory, task.id), finish=completed())
    again = engine.run(engine.deliver, [item])[0]
    assert (again.repeated, again.accepted, again.generation) == (True, True, first.generation)
    assert again.status == TaskStatus.COMPLETED
    assert InboxMessage.objects.count() == 1


def test_another_message_under_the_same_id_is_a_conflict(factory: Factory) -> None:
    task_id = factory.pending()
    assert factory.deliver(task_id, "one", message_id="m").accepted
    other = factory.deliver(task_id, "other", message_id="m")
    assert (other.conflict, other.accepted) == (True, False)
    assert factory.deliver(factory.pending(), "other", message_id="m").accepted
    assert InboxMessage.objects.filter(task_id=task_id).count() == 1


@pytest.mark.parametrize("finish", [completed(), FAILED])
def test_a_task_that_has_ended_takes_no_message(finish: Finish, factory: Factory) -> None:
    task_id = factory.finished(finish)
    delivered = factory.deliver(task_id)
    assert (delivered.ended, delivered.accepted, delivered.status) == (True, False, finish.status)
    assert generations(task_id) == [1, 2, 3]


def test_a_task_of_another_client_or_agent_looks_like_none(factory: Factory) -> None:
    task = Task.objects.get(id=factory.pending())
    stranger = Client.objects.create(name="stranger")
    items = [
        follow_up(task, task_id=uuid4()),
        follow_up(task, client_id=stranger.pk),
        follow_up(task, agent="sleep"),
    ]
    delivered = engine.run(engine.deliver, items)
    assert [(item.missing, item.accepted, item.generation) for item in delivered] == [(True, False, 0)] * 3
    assert Task.objects.get().inbox_seq == 0


def test_a_message_that_cannot_be_stored_leaves_none_of_its_list(factory: Factory) -> None:
    task = Task.objects.get(id=factory.pending())
    with pytest.raises(DataError):
        engine.run(engine.deliver, [follow_up(task), follow_up(task, accepted_output_modes=("\x00",))])


# turns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "finish", [completed(said("done")), asks(message=said("done")), asks(TaskStatus.AUTH_REQUIRED, said("done"))]
)
def test_a_turn_that_ends_while_a_message_waits_is_followed_by_the_next(finish: Finish, factory: Factory) -> None:
    claim = factory.claimed()
    factory.deliver(claim.task_id, "and then?")
    Task.objects.update(spent=2, crashes=1)
    written = factory.write(claim, Note(progress=0.5), finish=finish)
    assert (written.accepted, written.status, written.generation) == (True, TaskStatus.PENDING, 5)
    task, attempt = Task.objects.get(), TaskAttempt.objects.get()
    assert (task.status, task.consumed_seq, task.turn_generation, task.spent, task.crashes) == ("pending", 1, 5, 0, 0)
    assert (task.completed_at, task.input_expires_at, task.lease_id, task.timeout_at) == (None, None, None, None)
    assert (attempt.outcome, attempt.released_at is not None) == (finish.outcome, True)
    event = TaskEvent.objects.get(generation=5)
    assert (event.kind, event.status, text(event.payload)) == ("status", "pending", "done")
    again = next_turn(factory, claim.task_id)
    assert (again.turn, again.attempt, text(again.message)) == (2, 2, "and then?")
    assert Task.objects.get().progress == 0
    assert factory.write(again, finish=completed()).status == TaskStatus.COMPLETED


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.REJECTED, TaskStatus.CANCELLED])
def test_an_end_that_is_not_well_is_the_last_whatever_waits(status: TaskStatus, factory: Factory) -> None:
    claim = factory.claimed()
    factory.deliver(claim.task_id)
    written = factory.write(claim, finish=Finish(status=status, outcome=Outcome.FAILED))
    assert written.status == Task.objects.get().status == status


def test_each_message_has_a_turn_of_its_own_in_the_order_of_arrival(factory: Factory) -> None:
    claim = factory.claimed()
    for word in ("one", "two", "three"):
        factory.deliver(claim.task_id, word)
    heard = []
    while factory.write(claim, finish=completed()).status == TaskStatus.PENDING:
        claim = next_turn(factory, claim.task_id)
        heard.append((claim.turn, text(claim.message)))
    assert heard == [(2, "one"), (3, "two"), (4, "three")]
    assert generations(claim.task_id) == list(range(1, Task.objects.get().generation + 1))


def test_while_a_turn_is_tried_again_it_answers_the_same_message(factory: Factory) -> None:
    task_id = factory.finished(asks())
    factory.deliver(task_id, "one")
    factory.deliver(task_id, "two")
    claim = next_turn(factory, task_id)
    factory.write(claim, finish=RETRY)
    claim = next_turn(factory, task_id)
    engine.run(engine.lose, [lost(claim.attempt_id)])
    claim = next_turn(factory, task_id)
    engine.run(engine.lose, [lost(claim.attempt_id, Outcome.HANDED_BACK, spend=False)])
    claim = next_turn(factory, task_id)
    factory.lose_lease(claim)
    Task.objects.update(max_attempts=9)
    engine.run(engine.rescue)
    claim = next_turn(factory, task_id)
    assert (claim.turn, claim.attempt, claim.spent, text(claim.message)) == (2, 6, 3, "one")


def test_a_repeated_finish_of_a_turn_changes_nothing_and_tells_the_state(factory: Factory) -> None:
    claim = factory.claimed()
    factory.deliver(claim.task_id)
    factory.deliver(claim.task_id)
    item = Write(task_id=claim.task_id, attempt_id=claim.attempt_id, finish=completed())
    first, again = engine.run(engine.write, [item])[0], engine.run(engine.write, [item])[0]
    assert (first.accepted, first.status) == (again.accepted, again.status) == (True, TaskStatus.PENDING)
    task = Task.objects.get()
    assert (task.consumed_seq, task.generation) == (1, first.generation)


def test_a_repeated_question_is_recognised_after_it_was_answered(factory: Factory) -> None:
    claim = factory.claimed()
    item = Write(task_id=claim.task_id, attempt_id=claim.attempt_id, finish=asks())
    engine.run(engine.write, [item])
    factory.deliver(claim.task_id)
    assert engine.run(engine.write, [item])[0].accepted
    assert Task.objects.get().consumed_seq == 1


def test_a_turn_knows_what_was_said_before_it(factory: Factory) -> None:
    """Not what the client said for later turns, and not what this turn's own attempts have said."""
    claim = factory.claimed()
    assert (claim.turn, claim.history) == (1, ())
    factory.write(claim, Note(kind="message", message=said("thinking")))
    factory.deliver(claim.task_id, "one")
    factory.deliver(claim.task_id, "two")
    factory.write(claim, Note(progress=0.5), CheckpointRecord(name="c", data="1"), finish=completed(said("first")))
    claim = next_turn(factory, claim.task_id)
    factory.write(claim, Note(kind="message", message=said("a try")), finish=RETRY)
    for _ in range(2):
        claim = next_turn(factory, claim.task_id)
        assert [text(message) for message in claim.history] == ["hello", "thinking", "first"]
        assert text(claim.message) == "one"
        factory.write(claim, finish=RETRY)
    factory.write(next_turn(factory, claim.task_id), finish=completed(said("second")))
    claim = next_turn(factory, claim.task_id)
    heard = [text(message) for message in claim.history]
    assert heard == ["hello", "thinking", "one", "first", "a try", "second"]
    assert text(claim.message) == "two"


def test_the_same_execution_asking_again_gets_the_same_turn(factory: Factory) -> None:
    task_id = factory.finished(asks(message=said("which?")))
    factory.deliver(task_id, "left", accepted_output_modes=("text/plain", 'odd"{},\\'))
    admit({Lane.IO: 1})
    request = claim_request(task_id, Task.objects.get().epoch)
    first, again = engine.run(engine.claim, [request])[0], engine.run(engine.claim, [request])[0]
    assert first == again
    assert first is not None
    assert first.accepted_output_modes == ("text/plain", 'odd"{},\\')
    assert [text(message) for message in first.history] == ["hello", "which?"]


def test_the_media_types_that_a_client_takes_are_those_of_the_message(factory: Factory) -> None:
    claim = factory.claimed(accepted_output_modes=("image/png", "text/*"))
    assert claim.accepted_output_modes == ("image/png", "text/*")
    factory.deliver(claim.task_id)
    factory.write(claim, finish=completed())
    assert next_turn(factory, claim.task_id).accepted_output_modes == ()


def test_so_many_messages_may_wait_and_none_more(factory: Factory, settings: Any) -> None:
    settings.A2A_MAX_UNREAD = 2
    claim = factory.claimed()
    first = factory.deliver(claim.task_id, "one", message_id="m")
    assert first.accepted
    assert factory.deliver(claim.task_id).accepted
    refused = factory.deliver(claim.task_id)
    assert (refused.full, refused.accepted) == (True, False)
    assert generations(claim.task_id) == [1, 2, 3, 4]
    assert factory.deliver(claim.task_id, "one", message_id="m").accepted, "a repeat stands as it did"
    factory.write(claim, finish=completed())
    assert factory.deliver(claim.task_id).accepted, "the first has its turn"


def test_a_status_keeps_no_message_of_the_one_before(factory: Factory) -> None:
    ended, expired, gone = factory.claimed(), factory.finished(asks(message=said("which?"))), factory.claimed()
    for claim in (ended, gone):
        factory.write(claim, Note(kind="message", progress=0.5, message=said("half way")))
        assert Task.objects.get(id=claim.task_id).status_message is not None
    factory.write(ended, finish=completed())
    Task.objects.filter(id=expired).update(input_expires_at=timezone.now() - timedelta(seconds=1))
    engine.run(engine.expire)
    engine.run(engine.lose, [lost(gone.attempt_id)])
    assert set(Task.objects.values_list("status", "status_message")) == {
        ("completed", None),
        ("failed", None),
        ("pending", None),
    }


def test_who_does_not_answer_in_time_is_not_waited_for(factory: Factory) -> None:
    answered, silent = factory.finished(asks()), factory.finished(asks())
    factory.deliver(answered)
    Task.objects.filter(id=silent).update(input_expires_at=timezone.now() - timedelta(seconds=1))
    assert [(task.task_id, task.status) for task in engine.run(engine.expire)] == [(silent, TaskStatus.FAILED)]
    assert factory.deliver(silent).ended


def test_the_start_deadline_counts_for_the_first_start_only(factory: Factory) -> None:
    task_id = factory.finished(asks(), start_deadline_s=60.0)
    factory.deliver(task_id)
    Task.objects.update(start_deadline_at=timezone.now() - timedelta(seconds=1))
    assert engine.run(engine.expire) == []


def test_a_task_with_messages_is_pruned_whole(factory: Factory) -> None:
    task_id = factory.finished(asks())
    factory.deliver(task_id)
    factory.write(next_turn(factory, task_id), finish=completed())
    Task.objects.update(completed_at=timezone.now() - timedelta(days=2))
    assert engine.run(engine.prune, {TaskStatus.COMPLETED: 86_400.0}) == [task_id]
    assert InboxMessage.objects.count() == 0


# reads -----------------------------------------------------------------------------------------------------------


def test_streams_and_history_have_every_message_in_the_order_of_generations(factory: Factory) -> None:
    """A message that comes before the first run leaves the task SUBMITTED; between two runs it is WORKING."""
    task_id = factory.pending()
    factory.deliver(task_id, "one")
    admit({Lane.IO: 1})
    claim = factory.claim(task_id)
    factory.write(claim, Note(kind="message", message=said("hm")), finish=asks(message=said("which?")))
    factory.deliver(task_id, "two")
    events = [wire.event(event, context_id="c").status_update for event in engine.run(reads.events, task_id, after=0)]
    assert [(TaskState.Name(e.status.state)[11:], e.status.message.message_id) for e in events] == [
        ("SUBMITTED", ""),
        ("SUBMITTED", ""),
        ("WORKING", ""),
        ("WORKING", "hm"),
        ("WORKING", "which?"),
        ("WORKING", ""),
    ]
    record = engine.run(reads.task, task_id, client_id=factory.owner.pk)
    assert record is not None
    assert [text(message) for message in record.messages] == ["hello", "one", "hm", "which?", "two"]
    assert [message.parts[0].text for message in Task.objects.get().messages] == ["hello", "one", "hm", "which?", "two"]


def test_the_timestamp_of_a_status_is_when_the_task_came_into_it(factory: Factory) -> None:
    """A2A 1.0, section 4.1.2."""
    claim = factory.claimed()
    Task.objects.update(status_at=timezone.now() - timedelta(hours=1))
    factory.write(claim, Note(progress=0.5))
    factory.deliver(claim.task_id)
    record = engine.run(reads.task, claim.task_id, client_id=factory.owner.pk)
    assert record is not None
    assert record.status_at < timezone.now() - timedelta(minutes=59)
