"""What the heartbeat puts on record: processes that died, handlers that fell silent, and what the worker has."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from tasks_app import agents, engine
from tasks_app.engine import Claim
from tasks_app.models import Outcome, Task, TaskAttempt, Worker
from tasks_app.policies import Resources
from tasks_app.status import Lane
from tasks_app.wakeups import DISPATCH, LOOK, Ring
from tests.children import Children, died
from tests.factory import Factory
from tests.live import wait_for
from tests.nodes import cpu_node
from workers.heartbeat import Heartbeat
from workers.loop import IoLoop
from workers.recording import IoRecorder
from workers.slots import SlotTable

pytestmark = pytest.mark.django_db
CAPACITY = Resources(memory_mb=512, cores=2.0, disk_mb=100)


@pytest.fixture
def fork() -> Iterator[Children]:
    children = Children()
    yield children
    children.end()


@pytest.fixture
def table() -> SlotTable:
    return SlotTable()


@pytest.fixture
def heartbeat(table: SlotTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Heartbeat:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Heartbeat(cpu_node(table, CAPACITY))


def ended(claim: Claim) -> tuple[str | None, str | None, bool]:
    """Outcome, code, and whether the slot is free."""
    attempt = TaskAttempt.objects.get(id=claim.attempt_id)
    return attempt.outcome, (attempt.error or {}).get("code"), attempt.released_at is not None


def test_a_process_that_died_is_on_record_with_its_cause(
    heartbeat: Heartbeat, table: SlotTable, factory: Factory, fork: Children
) -> None:
    claim = factory.claimed(lane=Lane.CPU)

    def body() -> None:
        table.take(0, claim.attempt_id, agent="echo")
        os.kill(os.getpid(), signal.SIGSEGV)

    died(fork(body))
    heartbeat.beat()
    assert ended(claim) == (Outcome.PROCESS_LOST, "segfault", True)
    assert Task.objects.get(id=claim.task_id).status == "pending"


def test_what_the_database_did_not_take_is_put_on_record_by_a_later_beat(
    heartbeat: Heartbeat, table: SlotTable, factory: Factory, fork: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = factory.claimed(lane=Lane.CPU)

    def body() -> None:
        table.take(0, claim.attempt_id, agent="echo")
        os._exit(7)

    def away(items: object) -> engine.Steps[list[engine.Moved]]:
        raise OperationalError("away")

    died(fork(body))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "lose", away)
        with pytest.raises(OperationalError):
            heartbeat.beat()
    assert ended(claim) == (None, None, False)
    heartbeat.beat()
    assert ended(claim) == (Outcome.PROCESS_LOST, "process_lost", True)


def test_a_silent_handler_loses_its_attempt_at_once_and_its_slot_when_it_has_stopped(
    heartbeat: Heartbeat, table: SlotTable, factory: Factory, fork: Children
) -> None:
    claim = factory.claimed(lane=Lane.CPU)

    def body() -> None:
        table.take(0, claim.attempt_id, agent="echo", heartbeat_timeout_s=1e-9)
        table.handle(0, rss_bytes=0, cpu_s=0.0)

    pid = fork(body)
    wait_for(table.silent, timeout_s=5)
    heartbeat.beat()
    assert ended(claim) == (Outcome.HEARTBEAT_LOST, "heartbeat_lost", False)
    assert Task.objects.get(id=claim.task_id).status == "pending"
    assert table.told_to_stop(0, claim.attempt_id)
    os.kill(pid, signal.SIGKILL)
    died(pid)
    heartbeat.beat()
    assert ended(claim) == (Outcome.HEARTBEAT_LOST, "heartbeat_lost", True)


def test_on_the_event_loop_silence_is_told_by_its_recorder(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    loop, claim, free = IoLoop(), factory.claimed(), factory.claimed()
    recorder = IoRecorder(claim, loop, heartbeat_timeout_s=5.0)
    loop.started(recorder)
    loop.started(IoRecorder(free, loop))
    now_s = 104.0
    recorder.alive()
    now_s = 108.0
    assert loop.silent() == set()
    now_s = 110.0
    assert loop.silent() == {claim.attempt_id}
    loop.stop(claim.attempt_id)
    assert loop.silent() == set()  # said once: it is being stopped
    loop.close()


def test_a_loop_that_a_handler_blocks_holds_no_lease_until_it_turns_again(factory: Factory, settings: Any) -> None:
    settings.A2A_LEASE_S = 1.5
    loop, claim, go = IoLoop(), factory.claimed(), threading.Event()
    loop.started(IoRecorder(claim, loop))
    assert (loop.is_well(), loop.live()) == (True, {claim.attempt_id})
    loop.call(go.wait, 30)
    wait_for(lambda: not loop.is_well(), timeout_s=10)
    assert loop.live() == set()
    go.set()
    wait_for(loop.is_well, timeout_s=10)
    assert loop.live() == {claim.attempt_id}
    loop.close()


def test_a_worker_announces_its_agents_and_what_it_has(heartbeat: Heartbeat) -> None:
    heartbeat.beat()
    row = Worker.objects.get(name="worker-1")
    assert (row.memory_mb, row.cores, row.disk_mb) == (512, 2.0, 100)
    assert row.agents == sorted(agents.registered())


def test_the_dispatcher_hears_of_a_worker_when_it_comes_and_not_at_each_beat(
    heartbeat: Heartbeat, bells: list[Ring]
) -> None:
    for _ in range(2):
        heartbeat.announce()
    assert bells == [(DISPATCH, LOOK)]
