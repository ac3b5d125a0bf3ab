"""The Celery app: its queues from lanes and priorities, and what beat triggers.

A message is a hint, ``{task_id, epoch}``; losing or repeating it changes only latency. Queues are quorum queues, with a
dead-letter exchange for what no worker can read.
"""

import os

from celery import Celery
from celery.worker.consumer import Consumer
from kombu import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a2a_project.settings")

from django.conf import settings

from tasks_app.dispatch.queues import queue_name
from tasks_app.status import Lane, Priority

EXCHANGE = Exchange("a2a", type="direct", durable=True)
DEAD_EXCHANGE = Exchange("a2a.dead", type="fanout", durable=True)
DEAD_QUEUE = Queue("a2a.dead", DEAD_EXCHANGE, queue_arguments={"x-queue-type": "quorum", "x-max-length": 10_000})
SYSTEM_QUEUE = "a2a.system"


def _queue(name: str) -> Queue:
    arguments = {"x-queue-type": "quorum", "x-dead-letter-exchange": DEAD_EXCHANGE.name}
    return Queue(name, EXCHANGE, routing_key=name, queue_arguments=arguments)


QUEUES = [_queue(queue_name(lane, priority)) for lane in Lane for priority in Priority] + [_queue(SYSTEM_QUEUE)]

# Celery adds a step that declares 28 delay queues for ETAs wherever it sees quorum queues. Nothing here has an ETA.
Consumer.Blueprint.default_steps = {step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step}

app = Celery("a2a_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_queues=QUEUES,
    task_default_queue=SYSTEM_QUEUE,
    task_default_exchange=EXCHANGE.name,
    task_default_routing_key=SYSTEM_QUEUE,
    task_create_missing_queues=False,
    imports=["workers.jobs", "workers.signals"],
    beat_schedule={
        "rescue": {
            "task": "a2a.rescue",
            "schedule": settings.A2A_SWEEP_S,
            "options": {"queue": SYSTEM_QUEUE, "expires": settings.A2A_SWEEP_S},
        },
        "prune": {
            "task": "a2a.prune",
            "schedule": settings.A2A_PRUNE_S,
            "options": {"queue": SYSTEM_QUEUE, "expires": settings.A2A_PRUNE_S},
        },
    },
)
app.conf["CELERY_DB_REUSE_MAX"] = settings.CELERY_DB_REUSE_MAX
# For `manage.py a2a --validate-queues`, which may not import this module. Not one of task_queues: nobody consumes it.
app.conf["a2a_dead_queue"] = DEAD_QUEUE
