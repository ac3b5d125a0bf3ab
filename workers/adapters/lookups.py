"""What the adapters read of tasks. On a thread, with a connection of its own: it is asked for seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from a2a.types import Message
from a2a.types import Task as WireTask
from django.db import connection

from tasks_app import engine, reads
from tasks_app.a2a import wire
from tasks_app.models import Task, TaskEvent
from tasks_app.status import TaskStatus

T = TypeVar("T")


async def before_turn(task_id: UUID, history: list[Message]) -> WireTask:
    """The task as its client saw it when it sent the message of this turn, before which ``history`` was said."""
    return await _on_a_thread(lambda: _before_turn(task_id, history))


async def related(task_id: UUID, ids: list[str]) -> list[WireTask]:
    """Those of these tasks that the client of this task owns."""
    return await _on_a_thread(lambda: _related(task_id, ids))


def _before_turn(task_id: UUID, history: list[Message]) -> WireTask:
    task = Task.objects.get(id=task_id)
    record = engine.run(reads.task, task_id, client_id=task.client_id, history=False)
    events = TaskEvent.objects.filter(task_id=task_id, kind="status", attempt__gt=0)
    last = events.filter(generation__lte=task.turn_generation).latest("generation")
    assert record is not None  # noqa: S101 (it runs)
    return wire.task(
        replace(
            record,
            status=TaskStatus(last.status),
            status_message=bytes(last.payload) if last.payload else None,
            status_at=last.created_at,
            messages=tuple(message.SerializeToString() for message in history),
        )
    )


def _related(task_id: UUID, ids: list[str]) -> list[WireTask]:
    client_id = Task.objects.values_list("client_id", flat=True).get(id=task_id)
    records = [engine.run(reads.task, UUID(text), client_id=client_id) for text in ids]
    return [wire.task(record) for record in records if record is not None]


async def _on_a_thread(read: Callable[[], T]) -> T:
    def run() -> T:
        try:
            return read()
        finally:
            connection.close()

    return await asyncio.to_thread(run)
