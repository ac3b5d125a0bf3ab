"""The Celery app: its queues from lanes and priorities, and what beat triggers.

A message is a hint, ``{task_id, epoch}``; losing or repeating it changes only latency. On RabbitMQ queues are quorum
queues, with a dead-letter exchange for what no worker can read; the other brokers know neither.
"""

import os
from typing import Any

from celery import Celery
from kombu import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a2a_project.settings")

from django.conf import settings

from tasks_app.brokers import options
from tasks_app.dispatch.queues import DEAD_QUEUE, SYSTEM_QUEUE, queue_names
from tasks_app.prefix import prefixed
from tasks_app.status import Lane

ON_RABBITMQ = options.kind(settings.CELERY_BROKER_URL) == options.AMQP
EXCHANGE = Exchange(prefixed("a2a"), type="direct", durable=True)
DEAD_EXCHANGE = Exchange(prefixed(DEAD_QUEUE), type="fanout", durable=True)
QUORUM = {"x-queue-type": "quorum"}


def _queue(name: str) -> Queue:
    """Known by its name to ``-Q``, to schedules and to us, whatever stands before it at the broker."""
    arguments = QUORUM | {"x-dead-letter-exchange": DEAD_EXCHANGE.name} if ON_RABBITMQ else None
    here = prefixed(name)
    return Queue(here, EXCHANGE, routing_key=here, alias=name, queue_arguments=arguments)


def _dead_queue() -> Queue | None:
    arguments = QUORUM | {"x-max-length": 10_000}
    return Queue(DEAD_EXCHANGE.name, DEAD_EXCHANGE, queue_arguments=arguments) if ON_RABBITMQ else None


def _sweep(task: str, every_s: float) -> dict[str, Any]:
    """An entry of beat's schedule. One that is not begun before the next is due is not run any more."""
    return {"task": task, "schedule": every_s, "options": {"queue": SYSTEM_QUEUE, "expires": every_s}}


# Before the first connection: kombu's own let a damaged message, or one late answer, end the worker.
TRANSPORT_ALIASES |= {
    "redis": "tasks_app.brokers.redis:Transport",
    "rediss": "tasks_app.brokers.redis:Transport",
    "sqs": "tasks_app.brokers.sqs:Transport",
}

app = Celery("a2a_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_queues=[_queue(name) for lane in Lane for name in queue_names(lane)] + [_queue(SYSTEM_QUEUE)],
    task_default_queue=SYSTEM_QUEUE,
    task_default_exchange=EXCHANGE.name,
    task_default_routing_key=prefixed(SYSTEM_QUEUE),
    task_create_missing_queues=False,
    # Two installations on one broker would hear each other's remote control and events.
    control_exchange=prefixed("celery"),
    event_exchange=prefixed("celeryev"),
    event_queue_prefix=prefixed("celeryev"),
    worker_consumer="workers.consumer:Consumer",
    imports=["workers.jobs", "workers.signals", "workers.remote_control"],
    beat_schedule={
        "rescue": _sweep("a2a.rescue", settings.A2A_SWEEP_S),
        "prune": _sweep("a2a.prune", settings.A2A_PRUNE_S),
        "push": _sweep("a2a.push", settings.A2A_PUSH_SWEEP_S),
        "fire": _sweep("a2a.fire", settings.A2A_FIRE_S),
        "cancel-remotes": _sweep("a2a.cancel-remotes", settings.A2A_SWEEP_S),
    },
)
app.conf["CELERY_DB_REUSE_MAX"] = settings.CELERY_DB_REUSE_MAX
# For `manage.py a2a --validate-queues`, which may not import this module. Not one of task_queues: nobody consumes it.
app.conf["a2a_dead_queue"] = _dead_queue()
