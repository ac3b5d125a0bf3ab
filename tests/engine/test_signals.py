"""What Celery's signals do to a task, called as Celery calls them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks_app.models import Task
from tasks_app.policies import Resources
from tasks_app.status import Lane, TaskStatus
from tests.factory import Factory
from workers import jobs, node, signals
from workers.runner import CpuRunner
from workers.scratch import ScratchRoot
from workers.slots import SlotTable
from workers.watch import Watch

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SlotTable:
    """The slots of a worker of the cpu lane, which this process is meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    table, root = SlotTable(), ScratchRoot()
    here = node.Node(
        name="worker-1",
        lane=Lane.CPU,
        slots=1,
        running=Watch(table, root, on_loss=lambda: None),
        runner=CpuRunner(table, root),
        capacity=Resources(),
        scratch=root,
    )
    monkeypatch.setattr(node, "_current", here)
    return table


@pytest.fixture
def job() -> Iterator[Any]:
    """The job as it is while Celery runs it."""
    job: Any = jobs.run_cpu
    job.push_request()
    yield job
    job.pop_request()


def test_a_worker_that_shuts_down_claims_nothing(factory: Factory, table: SlotTable, job: Any) -> None:
    task_id = factory.admitted(lane=Lane.CPU)
    table.drain()
    signals.claim(sender=job, task=job, args=[str(task_id), 0])
    assert Task.objects.get(id=task_id).status == TaskStatus.PENDING
    assert jobs.run_cpu.run(str(task_id), 0) == "not claimed"


def test_a_worker_that_works_claims_before_the_handler_runs(factory: Factory, table: SlotTable, job: Any) -> None:
    task_id = factory.admitted(lane=Lane.CPU)
    signals.claim(sender=job, task=job, args=[str(task_id), 0])
    assert Task.objects.get(id=task_id).status == TaskStatus.RUNNING
    assert job.request.a2a_run.claim.task_id == task_id
