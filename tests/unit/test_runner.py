"""The cpu lane's half of the pipeline, without Celery: what it leaves in the table of slots, and who comes back."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest

from tasks_app.models import Outcome, TaskAttempt
from tasks_app.policies import Resources
from tasks_app.status import Lane
from tests.children import result_of
from tests.factory import Factory, completed
from tests.nodes import cpu_node
from workers import node, room, runner
from workers.runner import CpuRunner
from workers.slots import SlotTable


@pytest.fixture
def table() -> SlotTable:
    return SlotTable()


@pytest.fixture
def cpu(table: SlotTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CpuRunner:
    """As in a child of a worker with two slots and 100 MB for those who say what they need."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here = cpu_node(table, Resources(memory_mb=100))
    monkeypatch.setattr(node, "_current", here)
    assert isinstance(here.runner, CpuRunner)
    return here.runner


@pytest.mark.django_db
def test_the_slot_is_taken_by_the_claim_and_free_after_the_end(
    cpu: CpuRunner, table: SlotTable, factory: Factory
) -> None:
    """What stays in the table is taken for running: it would be killed once its lease is found to be gone."""
    run = cpu.claim(factory.admitted(lane=Lane.CPU), 0)
    assert run is not None
    assert [slot.attempt_id for slot in table.slots()] == [run.claim.attempt_id]
    assert cpu.finish(run, completed()).accepted
    assert table.slots() == []


@pytest.mark.django_db
def test_of_two_claims_for_the_same_room_one_is_given_back(
    cpu: CpuRunner, table: SlotTable, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each child offers what is free when it asks; the other may have got it by then."""
    offered = room.offer(node.current())
    monkeypatch.setattr(room, "offer", lambda here: offered)
    table.take(1, uuid4(), agent="echo", asked=Resources(memory_mb=60))
    task_id = factory.admitted(lane=Lane.CPU, needs=Resources(memory_mb=60))
    assert cpu.claim(task_id, 0) is None
    assert [slot.index for slot in table.slots()] == [1]
    attempt = TaskAttempt.objects.get(task_id=task_id)
    assert (attempt.outcome, attempt.task.status, attempt.task.spent) == (Outcome.NO_ROOM, "pending", 0)
    assert attempt.released_at is not None


def test_a_process_that_a_handler_forked_never_comes_back_from_it() -> None:
    reader, writer = os.pipe()

    def handler(context: object) -> None:
        if pid := os.fork():
            os.waitpid(pid, 0)

    def body() -> None:
        runner._called(handler, None, None)  # type: ignore[arg-type]  # a plain function asks neither
        os.write(writer, b"came back")

    result_of(body)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"came back"  # once
