"""Why a pending task is not running: from what holds, and as the database says it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db.models import F
from django.utils import timezone

from tasks_app import agents, engine
from tasks_app.dispatch.plan import Capacity
from tasks_app.engine.admit import Found, GroupKey
from tasks_app.models import Breaker, Client, QueueControl, Task, Worker
from tasks_app.policies import BreakerPolicy, Resources
from tasks_app.status import Lane
from tasks_app.waiting import Place, Situation, reasons, waiting_for, waiting_for_each
from tests.factory import Factory, admit

TASK = Found(GroupKey("io", 2, "echo", 1), uuid4(), memory_mb=100, cores=1.0, disk_mb=0)
FREE = Place((), Capacity("io"))
OPEN, HALF_OPEN = Breaker.State.OPEN.value, Breaker.State.HALF_OPEN.value
FULL = {"lane": 3, "agent": 3, "client": 3}


def codes(**fields: Any) -> list[str]:
    return [reason.code for reason in reasons(Situation(**{"task": TASK, "places": (FREE,), **fields}))]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["queued"]),
        ({"admitted": True}, ["dispatched"]),
        ({"due_in_s": 0.1}, ["not_due"]),
        *[({"paused": frozenset({scope})}, [f"{scope}_paused"]) for scope in ("lane", "queue", "agent", "client")],
        ({"breaker": OPEN}, ["breaker_open"]),
        ({"breaker": HALF_OPEN}, ["queued"]),
        ({"breaker": HALF_OPEN, "running": {"agent": 1}}, ["breaker_half_open"]),
        ({"breaker": HALF_OPEN, "running": {"agent": 1}, "admitted": True}, ["dispatched"]),
        ({"breaker": "closed"}, ["queued"]),
        *[({"limits": {scope: 3}, "running": FULL}, [f"{scope}_limit"]) for scope in ("lane", "agent", "client")],
        ({"limits": {"agent": 4, "client": 4}, "running": FULL}, ["queued"]),
        ({"limits": {"agent": 3}, "running": FULL, "admitted": True}, ["dispatched"]),
        ({"limits": {"client": 0}}, ["client_limit"]),
        ({"rate_per_s": 1.0, "debt_s": 1.0}, ["agent_rate"]),
        ({"rate_per_s": 1.0, "debt_s": 0.0}, ["queued"]),
        ({"places": ()}, ["no_worker"]),
        ({"places": (), "admitted": True}, ["no_worker"]),
        ({"places": (Place(("sleep",), Capacity("io")),)}, ["no_worker_for_agent"]),
        ({"places": (Place(("sleep",), Capacity("io")), Place(("echo",), Capacity("io")))}, ["queued"]),
        ({"places": (Place((), Capacity("io", memory_mb=99)),)}, ["no_worker_large_enough"]),
        ({"places": (Place((), Capacity("io", memory_mb=99)), Place((), Capacity("io", cores=1)))}, ["queued"]),
        (
            {"places": (Place(("echo",), Capacity("io", cores=0.5)), Place(("sleep",), Capacity("io", cores=9)))},
            ["no_worker_large_enough"],
        ),
        (
            {"due_in_s": 9.0, "paused": frozenset({"client", "agent"}), "places": (), "limits": {"agent": 0}},
            ["not_due", "agent_paused", "client_paused", "no_worker", "agent_limit"],
        ),
    ],
)
def test_every_reason_that_holds_is_named(fields: dict[str, Any], expected: list[str]) -> None:
    assert codes(**fields) == expected


def test_looking_takes_nothing_from_a_worker() -> None:
    situation = Situation(task=TASK, places=(Place((), Capacity("io", memory_mb=100)),))
    assert reasons(situation) == reasons(situation) == [reasons(situation)[0]]
    assert reasons(situation)[0].code == "queued"


def test_a_reason_names_what_it_is_about() -> None:
    told = reasons(Situation(task=TASK, paused=frozenset({"queue"}), places=()))
    assert [reason.message for reason in told] == [
        "an operator paused queue a2a.io.normal",
        "no worker of lane io is online",
    ]


# As the database says it ---------------------------------------------------------------------------------------------


@pytest.fixture
def worker(db: None) -> Worker:
    now = timezone.now()
    return Worker.objects.create(
        name="w", lane=Lane.IO, hostname="h", pid=1, slots=4, started_at=now, heartbeat_at=now, memory_mb=1000
    )


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent echo with a breaker, a limit of two and a rate."""
    spec = replace(agents.get("echo"), breaker=BreakerPolicy(), max_running=2, dispatch_rate_per_s=100.0)
    monkeypatch.setitem(agents._registry, "echo", spec)


def told(task_id: UUID) -> list[str]:
    return [reason.code for reason in engine.run(waiting_for, task_id)]


def test_what_is_not_pending_waits_for_nothing(factory: Factory, worker: Worker) -> None:
    assert told(factory.claimed().task_id) == told(factory.finished()) == told(uuid4()) == []


def test_pauses_and_times_are_read_from_where_operators_set_them(factory: Factory, worker: Worker) -> None:
    task_id = factory.pending(run_after=timezone.now() + timedelta(hours=1))
    now = timezone.now()
    for scope, name in (("lane", "io"), ("queue", "a2a.io.normal"), ("agent", "echo"), ("agent", "other")):
        QueueControl.objects.create(scope=scope, name=name, paused_at=now)
    Client.objects.filter(pk=factory.owner.pk).update(paused_at=now)
    assert told(task_id) == ["not_due", "agent_paused", "client_paused", "lane_paused", "queue_paused"]
    QueueControl.objects.update(paused_at=None)
    Client.objects.update(paused_at=None)
    engine.run(engine.reschedule, [task_id], run_after=now - timedelta(days=1))
    assert told(task_id) == ["queued"]
    admit({Lane.IO: 1})
    assert told(task_id) == ["dispatched"]


def test_many_are_told_in_one_look_each_of_its_own_lane_and_client(factory: Factory, worker: Worker) -> None:
    other = Factory(Client.objects.create(name="another", max_running=1))
    other.claimed()
    factory.claimed()
    ended = factory.finished()
    ids = [factory.pending(), other.pending(), factory.pending(agent="noop", lane=Lane.CPU), ended]
    found = engine.run(waiting_for_each, ids)
    codes = {task_id: [reason.code for reason in found[task_id]] for task_id in found}
    assert codes == {ids[0]: ["queued"], ids[1]: ["client_limit"], ids[2]: ["no_worker"]}


def test_limits_are_counted_from_what_is_admitted_and_what_runs(
    factory: Factory, worker: Worker, guarded: None
) -> None:
    factory.claimed()
    factory.admitted()
    task_id = factory.pending()
    assert told(task_id) == ["agent_limit"]
    QueueControl.objects.create(scope="agent", name="echo", max_running=9, dispatch_rate_per_s=2.0)
    assert told(task_id) == ["queued"]
    Client.objects.filter(pk=factory.owner.pk).update(max_running=2)
    QueueControl.objects.create(scope="lane", name="io", max_running=2)
    QueueControl.objects.filter(scope="agent").update(next_at=timezone.now() + timedelta(minutes=1))
    assert told(task_id) == ["client_limit", "lane_limit", "agent_rate"]


def test_a_breaker_counts_while_its_agent_declares_one(factory: Factory, worker: Worker) -> None:
    task_id = factory.pending()
    Breaker.objects.create(agent="echo", state=OPEN, changed_at=timezone.now())
    assert told(task_id) == ["queued"]


def test_an_open_breaker_is_told(factory: Factory, worker: Worker, guarded: None) -> None:
    task_id = factory.pending()
    Breaker.objects.create(agent="echo", state=OPEN, changed_at=timezone.now())
    assert told(task_id) == ["breaker_open"]


def test_only_live_workers_of_its_lane_count(factory: Factory, worker: Worker) -> None:
    task_id = factory.pending(needs=Resources(memory_mb=2000))
    assert told(task_id) == ["no_worker_large_enough"]
    Worker.objects.update(agents=["sleep"])
    assert told(task_id) == ["no_worker_for_agent"]
    Worker.objects.update(agents=["echo"], memory_mb=0)
    assert told(task_id) == ["queued"]
    for change in ({"heartbeat_at": F("heartbeat_at") - timedelta(minutes=5)}, {"state": "draining"}, {"lane": "cpu"}):
        before = Worker.objects.values(*change).get()
        Worker.objects.update(**change)
        assert told(task_id) == ["no_worker"], change
        Worker.objects.update(**before)
    assert Task.objects.get(id=task_id).status == "pending"
