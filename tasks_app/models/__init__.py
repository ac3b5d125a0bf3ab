"""Tables. Only ``tasks_app/engine`` writes the state of tasks; everyone may read."""

from tasks_app.models.api_key import ApiKey
from tasks_app.models.attempt import BREAKER_FAILURES, Outcome, TaskAttempt
from tasks_app.models.batch import Batch
from tasks_app.models.checkpoint import Checkpoint
from tasks_app.models.client import Client
from tasks_app.models.control import Breaker, QueueControl
from tasks_app.models.event import EventKind, TaskEvent
from tasks_app.models.inbox import InboxMessage
from tasks_app.models.push import PushConfig, PushDelivery, WebhookSecret
from tasks_app.models.schedule import Fire, Schedule
from tasks_app.models.task import Task, TaskDependency, TaskRequest
from tasks_app.models.worker import SweepTick, Worker

__all__ = [
    "BREAKER_FAILURES",
    "ApiKey",
    "Batch",
    "Breaker",
    "Checkpoint",
    "Client",
    "EventKind",
    "Fire",
    "InboxMessage",
    "Outcome",
    "PushConfig",
    "PushDelivery",
    "QueueControl",
    "Schedule",
    "SweepTick",
    "Task",
    "TaskAttempt",
    "TaskDependency",
    "TaskEvent",
    "TaskRequest",
    "WebhookSecret",
    "Worker",
]
