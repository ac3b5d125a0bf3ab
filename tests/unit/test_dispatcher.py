"""The dispatcher's loop, round by round, on real rows: who is active, what leaves the broker, what beat has missed."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from a2a_project.celery import app
from tasks_app import control, wakeups
from tasks_app.control import Scope
from tasks_app.database import conninfo
from tasks_app.dispatch.loop import LOCK, Dispatcher
from tasks_app.dispatch.publisher import PublishFailed
from tasks_app.engine import Hint
from tasks_app.models import SweepTick, Task, Worker
from tasks_app.status import Lane, TaskStatus
from tests.factory import Factory, completed
from tests.live import wait_for
from tests.unit.test_heads import Rung

pytestmark = pytest.mark.django_db


@pytest.fixture
def published() -> list[Hint]:
    return []


@pytest.fixture
def dispatcher(factory: Factory, published: list[Hint], monkeypatch: pytest.MonkeyPatch) -> Dispatcher:
    """With one worker of the io lane to send to."""
    now = timezone.now()
    who: dict[str, Any] = {"name": "w", "hostname": "h", "pid": 1, "lane": Lane.IO}
    Worker.objects.create(**who, slots=9, agents=["echo"], started_at=now, heartbeat_at=now)
    made = Dispatcher(app)
    monkeypatch.setattr(made, "_ear", Rung())
    monkeypatch.setattr(made._publisher, "publish", published.extend)
    return made


def test_one_is_active_and_the_others_stand_by_until_its_connection_is_gone(dispatcher: Dispatcher) -> None:
    with psycopg.connect(**conninfo(), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", LOCK)
        assert not dispatcher._became_active()
    wait_for(dispatcher._became_active, timeout_s=10, what="the lock is free")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK)


def test_what_is_paused_leaves_the_broker_at_the_next_look(
    dispatcher: Dispatcher, factory: Factory, published: list[Hint]
) -> None:
    task_id = factory.pending()
    dispatcher.step()
    assert [hint.task_id for hint in published] == [task_id]
    control.pause(Scope.AGENT, "echo")
    dispatcher._looked_at = 0.0  # as its bell says
    dispatcher.step()
    task = Task.objects.get(id=task_id)
    assert (task.admitted_at, task.epoch) == (None, 1)


def test_what_the_broker_did_not_take_is_due_again_soon_and_counts_as_never_sent(
    dispatcher: Dispatcher, factory: Factory, monkeypatch: pytest.MonkeyPatch, published: list[Hint]
) -> None:
    def fail(hints: list[Hint]) -> None:
        raise PublishFailed("the broker is away")

    task_id = factory.pending()
    with monkeypatch.context() as patch:
        patch.setattr(dispatcher._publisher, "publish", fail)
        dispatcher.step()
    assert Task.objects.get(id=task_id).publishes == 0
    Task.objects.update(republish_at=timezone.now() - timedelta(seconds=1))
    dispatcher._looked_at = 0.0
    dispatcher.step()
    assert [hint.task_id for hint in published] == [task_id]


def test_it_sweeps_when_beat_does_not(dispatcher: Dispatcher) -> None:
    dispatcher.step()
    tick = SweepTick.objects.get()
    long_ago = timezone.now() - timedelta(hours=1)
    SweepTick.objects.update(last_at=long_ago, hold_until=long_ago)
    dispatcher._looked_at = 0.0
    dispatcher.step()
    assert SweepTick.objects.get().last_at >= tick.last_at


def test_what_needs_another_is_sent_when_that_has_completed_and_what_cannot_be_fails(
    dispatcher: Dispatcher, factory: Factory, published: list[Hint], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[wakeups.Ring] = []
    monkeypatch.setattr(wakeups.bell, "ring", rung.extend)
    bad = factory.in_state(TaskStatus.FAILED)
    first = factory.pending()
    second, lost = factory.pending(depends_on=(first,)), factory.pending(depends_on=(bad,))
    dispatcher.step()
    assert [hint.task_id for hint in published] == [first]
    assert (wakeups.TASKS, f"{wakeups.SETTLED}{lost}") in rung
    looked_at = dispatcher._looked_at
    factory.write(factory.claim(first), finish=completed())
    wait_for(lambda: time.monotonic() > dispatcher._resolve_at, timeout_s=5, what="it is time to look")
    dispatcher.step()
    assert [hint.task_id for hint in published] == [first, second]
    assert dispatcher._looked_at == looked_at, "without a look around"
    wait_for(lambda: time.monotonic() > dispatcher._resolve_at, timeout_s=5, what="it is time to look again")
    dispatcher.step()
    assert dispatcher._resolve_at == math.inf
