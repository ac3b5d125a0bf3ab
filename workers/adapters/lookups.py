"""What the adapters read of tasks. On a thread, with a connection of its own: it is asked for seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import TypeVar
from uuid import UUID

from a2a.types import Message
from a2a.types import Task as WireTask
from django.db import connection

from tasks_app import engine, reads
from tasks_app.a2a import wire
from tasks_app.models import Task, TaskEvent
from tasks_app.status import TERMINAL, TaskStatus

T = TypeVar("T")


class Fate(Enum):
    """What becomes of a task whose attempt was told to stop.

    ``OVER``: nothing more, somebody ended it. ``TIMED_OUT``: the attempt still holds its lease, and ran too long.
    ``GOES_ON``: another attempt goes on with it, since this one's worker shuts down, or was thought to be gone.
    """

    OVER = auto()
    TIMED_OUT = auto()
    GOES_ON = auto()


async def before_turn(task_id: UUID, history: list[Message]) -> WireTask:
    """The task as it stood when the message of this turn came, before which ``history`` was said.

    As the SDK's server keeps it: the message of the state is not yet part of the history.
    """
    return await _on_a_thread(lambda: _before_turn(task_id, history))


async def related(task_id: UUID, ids: list[str]) -> list[WireTask]:
    """Those of these tasks that the client of this task owns."""
    return await _on_a_thread(lambda: _related(task_id, ids))


async def said_in_turn(task_id: UUID) -> set[str]:
    """The ids of the messages that earlier attempts of this turn have put on record."""
    return await _on_a_thread(lambda: _said_in_turn(task_id))


async def fate(task_id: UUID, attempt: int) -> Fate:
    """Why this attempt was told to stop."""
    return await _on_a_thread(lambda: _fate(task_id, attempt))


def _said_in_turn(task_id: UUID) -> set[str]:
    since = Task.objects.values_list("turn_generation", flat=True).get(id=task_id)
    events = TaskEvent.objects.filter(task_id=task_id, generation__gt=since, attempt__gt=0)
    payloads = events.said().values_list("payload", flat=True)
    return {Message.FromString(bytes(payload or b"")).message_id for payload in payloads}


def _fate(task_id: UUID, attempt: int) -> Fate:
    task = Task.objects.only("status", "attempt").get(id=task_id)
    if task.status in TERMINAL:
        return Fate.OVER
    return Fate.TIMED_OUT if task.status == TaskStatus.RUNNING and task.attempt == attempt else Fate.GOES_ON


def _before_turn(task_id: UUID, history: list[Message]) -> WireTask:
    task = Task.objects.get(id=task_id)
    record = engine.run(reads.task, task_id, client_id=task.client_id, history=0)
    events = TaskEvent.objects.filter(task_id=task_id, kind="status", attempt__gt=0)
    last = events.filter(generation__lte=task.turn_generation).latest("generation")
    assert record is not None  # noqa: S101 (it runs)
    asked = Message.FromString(bytes(last.payload or b"")).message_id
    return wire.task(
        replace(
            record,
            status=TaskStatus(last.status),
            status_message=bytes(last.payload) if last.payload else None,
            status_at=last.created_at,
            messages=tuple(said.SerializeToString() for said in history if said.message_id != asked),
        )
    )


def _related(task_id: UUID, ids: list[str]) -> list[WireTask]:
    client_id = Task.objects.values_list("client_id", flat=True).get(id=task_id)
    records = engine.run(reads.tasks_of, [reads.Wanted(UUID(text), client_id) for text in ids])
    return [wire.task(record) for record in records if record is not None]


async def _on_a_thread(read: Callable[[], T]) -> T:
    def run() -> T:
        try:
            return read()
        finally:
            connection.close()

    return await asyncio.to_thread(run)
