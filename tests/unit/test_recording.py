"""What a handler says is written once, in order, and the last of it always, also when a write's answer is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError

from tasks_app import engine
from tasks_app.engine import CheckpointRecord, Claim, Finish, Note, Write, Written
from tasks_app.models import Checkpoint, Outcome, Task, TaskEvent
from tasks_app.status import TaskStatus
from tests.factory import Factory, generations
from workers import recording
from workers.loop import IoLoop
from workers.recording import CpuRecorder, IoRecorder

FAILED = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error={"code": "x", "message": "y"})
#: What becomes of the write whose answer is lost.
lost_answers = pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])


def progress(claim: Claim) -> list[float]:
    """Of the events that tell of progress, in order."""
    told = TaskEvent.objects.filter(task_id=claim.task_id, kind="progress").order_by("generation")
    return list(told.values_list("progress", flat=True))


def is_on_record_once(claim: Claim) -> None:
    """The checkpoint, the progress after it, and the end."""
    task = Task.objects.get(id=claim.task_id)
    assert (task.status, task.progress) == (TaskStatus.FAILED, 0.5)
    assert task.events.filter(kind="checkpoint").count() == 1
    assert progress(claim) == [0.5]
    assert generations(claim.task_id) == list(range(1, task.generation + 1))


CHECKPOINT = CheckpointRecord(name="page", data="7")


# In the cpu lane -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cpu(factory: Factory) -> CpuRecorder:
    return CpuRecorder(factory.claimed(), told_to_stop=lambda: False, alive=lambda: None)


@pytest.mark.django_db
def test_of_progress_said_quickly_the_last_is_written_and_no_other(
    cpu: CpuRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "FLUSH_S", 60.0)
    for fraction in (0.1, 0.2, 0.3):
        cpu.add(Note(progress=fraction))
    assert cpu.finish(FAILED).accepted
    assert progress(cpu.claim) == [0.3]
    assert Task.objects.get(id=cpu.claim.task_id).progress == 0.3


@pytest.mark.django_db
@lost_answers
def test_a_write_whose_answer_was_lost_goes_again_before_the_next(
    cpu: CpuRecorder, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    def lose_answer(verb: Any, items: list[Write]) -> list[Written]:
        monkeypatch.setattr(recording, "persist", engine.run)
        if stored:
            engine.run(verb, items)
        raise OperationalError("the connection is gone")

    monkeypatch.setattr(recording, "persist", lose_answer)
    with pytest.raises(OperationalError):
        cpu.store(CHECKPOINT)
    cpu.keep(Note(progress=0.5))
    assert cpu.finish(FAILED).accepted
    is_on_record_once(cpu.claim)


# In the io lane ------------------------------------------------------------------------------------------------------


@pytest.fixture
def loop() -> Iterator[IoLoop]:
    made = IoLoop()
    yield made
    made.close()


def on(loop: IoLoop, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, loop.loop).result(10)


@pytest.mark.django_db(transaction=True)
def test_the_same_on_the_event_loop(factory: Factory, loop: IoLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "FLUSH_S", 60.0)
    recorder = IoRecorder(factory.claimed(), loop)
    for fraction in (0.1, 0.2, 0.3):
        recorder.add(Note(progress=fraction))
    recorder.keep(Note(kind="message"))  # told in order: behind it all of them are gathered
    assert on(loop, recorder.finish(FAILED)).accepted
    assert progress(recorder.claim) == [0.3]
    assert Task.objects.get(id=recorder.claim.task_id).progress == 0.3


@pytest.mark.django_db(transaction=True)
def test_what_a_coroutine_says_last_is_written_with_its_end(factory: Factory, loop: IoLoop) -> None:
    recorder = IoRecorder(factory.claimed(), loop)

    async def handle() -> Written:
        recorder.add(Note(progress=0.5))
        recorder.keep(Note(kind="message", progress=0.5))
        return await recorder.finish(FAILED)

    assert on(loop, handle()).generation == 5
    assert progress(recorder.claim) == [0.5]


@pytest.mark.django_db(transaction=True)
def test_a_coroutine_may_wait_until_what_it_said_is_written(
    factory: Factory, loop: IoLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "FLUSH_S", 60.0)
    recorder = IoRecorder(factory.claimed(), loop)

    async def handle() -> None:
        recorder.store(CHECKPOINT)
        await recorder.flush()
        await recorder.flush()

    on(loop, handle())
    assert Checkpoint.objects.get(task_id=recorder.claim.task_id).data == 7
    assert generations(recorder.claim.task_id) == [1, 2, 3]


@pytest.mark.django_db(transaction=True)
@lost_answers
def test_a_lost_answer_on_the_event_loop(
    factory: Factory, loop: IoLoop, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    recorder, tried = IoRecorder(factory.claimed(), loop), threading.Event()
    write: Callable[[Write], Awaitable[Written]] = loop.write

    async def lose_answer(item: Write) -> Written:
        monkeypatch.setattr(loop, "write", write)
        if stored:
            await write(item)
        tried.set()
        raise OperationalError("the connection is gone")

    monkeypatch.setattr(loop, "write", lose_answer)
    recorder.store(CHECKPOINT)
    assert tried.wait(10)
    recorder.keep(Note(progress=0.5))
    assert on(loop, recorder.finish(FAILED)).accepted
    is_on_record_once(recorder.claim)
