"""What operators do: the dispatcher goes by it at once, repeating it changes nothing, and nothing is lost to a race."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from tasks_app import control, engine
from tasks_app.control import NotFound, Scope
from tasks_app.dispatch.rules import look
from tasks_app.engine import Finish
from tasks_app.models import Breaker, Outcome, QueueControl, Task
from tasks_app.policies import BreakerPolicy
from tasks_app.status import Lane, Priority, TaskStatus
from tasks_app.wakeups import DISPATCH, LOOK, Ring, worker_channel
from tests.factory import Factory, admit

FAILED = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED)
NAMES = {Scope.LANE: "io", Scope.QUEUE: "a2a.io.normal", Scope.AGENT: "echo", Scope.CLIENT: "owner"}


class TestPause:
    @pytest.mark.parametrize("scope", list(Scope))
    def test_nothing_of_what_is_paused_is_admitted_until_it_is_resumed(
        self, factory: Factory, bells: list[Ring], scope: Scope
    ) -> None:
        task_id = factory.pending()
        assert control.pause(scope, NAMES[scope])
        assert bells == [(DISPATCH, LOOK)]
        assert admit({Lane.IO: 9}, look().rules) == []
        assert control.resume(scope, NAMES[scope])
        assert bells == [(DISPATCH, LOOK)] * 2
        assert [hint.task_id for hint in admit({Lane.IO: 9}, look().rules)] == [task_id]

    @pytest.mark.parametrize("scope", list(Scope))
    def test_repeating_it_changes_nothing_and_rings_nobody(
        self, factory: Factory, bells: list[Ring], scope: Scope
    ) -> None:
        assert not control.resume(scope, NAMES[scope])
        assert control.pause(scope, NAMES[scope])
        del bells[:]
        assert not control.pause(scope, NAMES[scope])
        assert bells == []

    def test_a_row_stands_only_where_something_is_set(self, db: None) -> None:
        control.resume(Scope.AGENT, "echo")
        control.limit(Scope.AGENT, "echo", max_running=None)
        assert not QueueControl.objects.exists()

    @pytest.mark.parametrize(
        ("scope", "name"),
        [(Scope.LANE, "gpu"), (Scope.QUEUE, "a2a.io.urgent"), (Scope.AGENT, "nobody"), (Scope.CLIENT, "nobody")],
    )
    def test_what_there_is_not_is_named_with_what_there_is(self, factory: Factory, scope: Scope, name: str) -> None:
        with pytest.raises(NotFound, match=f"no {scope} '{name}'; there are: .*{NAMES[scope]}"):
            control.pause(scope, name)

    def test_an_agent_that_is_gone_can_be_resumed(self, db: None) -> None:
        QueueControl.objects.create(scope="agent", name="gone", paused_at=timezone.now())
        assert control.resume(Scope.AGENT, "gone")


@pytest.mark.django_db(transaction=True)
def test_of_many_who_pause_at_the_same_time_one_changes_it() -> None:
    start, changed = threading.Barrier(8), []

    def pause() -> None:
        start.wait()
        try:
            changed.append(control.pause(Scope.AGENT, "echo"))
        finally:
            connection.close()

    threads = [threading.Thread(target=pause) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(changed) == [False] * 7 + [True]
    assert QueueControl.objects.get().paused_at is not None


class TestLimits:
    def test_those_of_an_agent_and_a_lane_hold(self, db: None, bells: list[Ring]) -> None:
        assert control.limit(Scope.AGENT, "echo", max_running=3, dispatch_rate_per_s=2.5)
        assert control.limit(Scope.LANE, "cpu", max_running=1)
        assert bells == [(DISPATCH, LOOK)] * 2
        rules = look().rules
        assert (rules.agent_max["echo"], rules.rates["echo"], rules.lane_max["cpu"]) == (3, 2.5, 1)
        assert not control.limit(Scope.AGENT, "echo", max_running=3)
        assert control.limit(Scope.AGENT, "echo", max_running=None)
        rules = look().rules
        assert "echo" not in rules.agent_max
        assert rules.rates["echo"] == 2.5

    @pytest.mark.parametrize(("scope", "name"), [(Scope.QUEUE, "a2a.io.low"), (Scope.CLIENT, "owner")])
    def test_a_limit_that_a_scope_has_not_is_refused(self, factory: Factory, scope: Scope, name: str) -> None:
        with pytest.raises(ValueError, match=f"a {scope} has no limit max_running"):
            control.limit(scope, name, max_running=1)


@pytest.mark.django_db(transaction=True)
class TestBreaker:
    POLICIES = {"echo": BreakerPolicy(failures=2)}

    def test_is_closed_by_hand_and_forgets_what_failed_before(self, factory: Factory, bells: list[Ring]) -> None:
        engine.run(engine.judge, self.POLICIES)
        running = [factory.claimed() for _ in range(2)]
        for _ in range(2):
            factory.finished(FAILED)
        assert engine.run(engine.judge, self.POLICIES)[0].state == Breaker.State.OPEN
        for claim in running:
            factory.write(claim, finish=FAILED)
        assert control.close_breaker("echo", by="a test")
        assert bells == [(DISPATCH, LOOK)]
        breaker = Breaker.objects.get()
        assert (breaker.state, breaker.retry_at, breaker.reason) == ("closed", None, "closed by a test")
        assert engine.run(engine.judge, self.POLICIES)[0].state == Breaker.State.CLOSED
        assert not control.close_breaker("echo", by="a test")

    def test_one_whose_probe_is_under_way_is_closed_too(self, factory: Factory) -> None:
        now = timezone.now()
        Breaker.objects.create(agent="echo", state="half_open", changed_at=now, probe=uuid4(), probe_epoch=1)
        assert control.close_breaker("echo", by="a test")
        assert Breaker.objects.get().probe is None

    def test_where_there_is_none_that_is_said(self) -> None:
        with pytest.raises(NotFound, match="agent 'echo' has no circuit breaker"):
            control.close_breaker("echo", by="a test")


class TestTasks:
    def test_many_are_cancelled_in_small_transactions(
        self, factory: Factory, bells: list[Ring], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(control, "BATCH", 2)
        ids = [factory.pending(), factory.claimed().task_id, factory.pending(), factory.finished()]
        done = control.cancel(ids, by="a test")
        assert {item.task_id for item in done} == set(ids[:3])
        assert (worker_channel("worker-1"), "") in bells

    def test_an_ended_one_runs_again_as_a_new_task_that_the_dispatcher_hears_of(
        self, factory: Factory, bells: list[Ring]
    ) -> None:
        failed, waits = factory.finished(FAILED, priority=Priority.HIGH, parameters={"n": 1}), factory.pending()
        (made,) = control.rerun([failed, waits])
        task = Task.objects.get(id=made.task_id)
        assert (task.rerun_of_id, task.status, task.priority, task.parameters) == (failed, "pending", 1, {"n": 1})
        assert (DISPATCH, "new:0") in bells

    def test_one_whose_agent_is_gone_does_not(self, factory: Factory, bells: list[Ring]) -> None:
        assert control.rerun([factory.finished(FAILED, agent="gone")]) == []
        assert bells == []

    def test_what_waits_gets_another_priority_and_another_time(self, factory: Factory, bells: list[Ring]) -> None:
        waits, admitted, runs = factory.pending(), factory.admitted(agent="sleep"), factory.claimed()
        ids = [waits, admitted, runs.task_id]
        assert set(control.prioritise(ids, Priority.CRITICAL)) == {waits, admitted}
        later = timezone.now() + timedelta(hours=1)
        assert set(control.postpone(ids, later)) == {waits, admitted}
        task = Task.objects.get(id=admitted)
        assert (task.priority, task.run_after, task.admitted_at) == (Priority.CRITICAL, later, None)
        assert bells == [(DISPATCH, "new:0")] * 2
        assert control.postpone([waits], timezone.now() - timedelta(days=1)) == [waits]
        assert [hint.task_id for hint in admit({Lane.IO: 9})] == [waits]


def test_every_scope_of_the_table_can_be_paused() -> None:
    assert set(QueueControl.Scope.values) < set(Scope.values)
