"""Why a task waits, in a sentence for its page."""

from __future__ import annotations

from datetime import datetime

from tasks_app import engine
from tasks_app.models import Task
from tasks_app.status import INTERRUPTED, TaskStatus
from tasks_app.waiting import waiting_for


def reason(task: Task, *, now: datetime) -> str:
    """What it waits for, all of it; empty if it does not wait."""
    if task.status in INTERRUPTED:
        return "waits for the client"
    if task.status != TaskStatus.PENDING:
        return ""
    found = [reason.message for reason in engine.run(waiting_for, task.id) if reason.code != "not_due"]
    if task.run_after > now:
        found.insert(0, f"its time is {task.run_after:%Y-%m-%d %H:%M:%S} UTC")
    if task.publishes > 1:
        found.append(f"handed to the broker {task.publishes} times")
    return f"waits: {'; '.join(found)}" if found else ""
