"""The operator's admin, below ``/admin/``: tasks, batches, queues, workers, artifacts, webhooks, clients, and more.

It reads; what changes a task goes through the engine's verbs. Artifacts are shown from here too, not from their own
app, because their pages point at tasks and imports go downward only.
"""

from tasks_app.admin import (
    api_keys,
    artifacts,
    batches,
    beat,
    breakers,
    clients,
    people,
    push,
    queues,
    schedules,
    tasks,
    workers,
)

__all__ = [
    "api_keys",
    "artifacts",
    "batches",
    "beat",
    "breakers",
    "clients",
    "people",
    "push",
    "queues",
    "schedules",
    "tasks",
    "workers",
]
