"""What the dispatcher remembers of many groups that wait, and what makes it look again."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from a2a_project.celery import app
from tasks_app.dispatch import heads, loop
from tasks_app.dispatch.heads import MANY, Heads
from tasks_app.dispatch.loop import Dispatcher
from tasks_app.engine import Hint
from tasks_app.engine.admit import GroupKey, Known
from tasks_app.models import Task, Worker
from tasks_app.status import Lane, Priority
from tasks_app.wakeups import DISPATCH, LOOK, accepted, arrived
from tests.factory import Factory


def key(number: int) -> GroupKey:
    return GroupKey("io", 2, "echo", number)


def test_few_groups_are_looked_at_in_every_round_and_many_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "REMEMBER_S", 60.0)
    memory = Heads()
    assert memory.known() is None
    memory.learn(Known({key(n): 0.0 for n in range(MANY - 1)}), everything=True)
    assert memory.known() is None
    full = {key(n): 0.0 for n in range(MANY)}
    memory.learn(Known(full, {key(3)}), everything=True)
    memory.changed(key(7))
    assert memory.known() == Known(full, {key(3), key(7)})
    memory.learn(Known(full), everything=False)
    assert memory.known() == Known(full, set())
    memory.forget()
    assert memory.known() is None


def test_what_is_remembered_is_forgotten_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    memory, full = Heads(), {key(n): 0.0 for n in range(MANY)}
    memory.learn(Known(full), everything=True)
    now_s += heads.REMEMBER_S / 2
    memory.learn(Known(full), everything=False)  # which looked at some, and makes the rest no younger
    assert memory.known() is not None
    now_s += heads.REMEMBER_S
    assert memory.known() is None


class Rung:
    """Instead of an ear: hears what the test rings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def ring(self, bells: list[tuple[str, str]]) -> None:
        self.texts += [text for channel, text in bells if channel == DISPATCH]

    def wait(self, timeout_s: float) -> list[str]:
        texts, self.texts = self.texts, []
        return texts


@pytest.fixture
def dispatcher(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> Dispatcher:
    """One with room, that knows of :data:`MANY` groups whose agents no worker has, and looks no more by itself."""
    now = timezone.now()
    who: dict[str, Any] = {"name": "w", "hostname": "h", "pid": 1, "lane": Lane.IO}
    Worker.objects.create(**who, slots=9, agents=["echo"], started_at=now, heartbeat_at=now)
    for number in range(MANY):
        factory.pending(agent=f"agent-{number}")
    monkeypatch.setattr(heads, "REMEMBER_S", 60.0)
    made = Dispatcher(app)
    monkeypatch.setattr(made, "_ear", Rung())
    made.step()
    monkeypatch.setattr(loop, "POLL_S", 60.0)
    return made


@pytest.mark.django_db
@pytest.mark.parametrize("bells", ["its group", "something", "look"])
def test_a_ring_makes_the_next_round_look_again(
    dispatcher: Dispatcher, factory: Factory, monkeypatch: pytest.MonkeyPatch, bells: str
) -> None:
    seen: list[Hint] = []
    monkeypatch.setattr(dispatcher, "_publish", seen.extend)
    silent = factory.pending(priority=Priority.HIGH)
    dispatcher.step()
    assert seen == []  # nobody told
    told = factory.pending(priority=Priority.CRITICAL)
    rung: dict[str, list[tuple[str, str]]] = {
        "its group": accepted([Task.objects.get(id=told)]),
        "something": arrived([Priority.CRITICAL]),
        "look": [(DISPATCH, LOOK)],
    }
    dispatcher._ear.ring(rung[bells])  # type: ignore[attr-defined]
    dispatcher.step()
    ids: list[UUID] = [hint.task_id for hint in seen]
    assert ids == ([told] if bells == "its group" else [told, silent])
