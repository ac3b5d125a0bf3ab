"""Tables. Only ``tasks_app/engine`` writes the state of tasks; everyone may read."""

from tasks_app.models.attempt import Outcome, TaskAttempt
from tasks_app.models.client import ApiKey, Client
from tasks_app.models.event import EventKind, TaskEvent
from tasks_app.models.task import Task, TaskRequest
from tasks_app.models.worker import SweepTick, Worker

__all__ = [
    "ApiKey",
    "Client",
    "EventKind",
    "Outcome",
    "SweepTick",
    "Task",
    "TaskAttempt",
    "TaskEvent",
    "TaskRequest",
    "Worker",
]
