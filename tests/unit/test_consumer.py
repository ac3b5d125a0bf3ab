"""How much a worker holds of the queues beyond what it runs."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from celery.concurrency.base import BasePool
from celery.signals import worker_init
from celery.worker import WorkController

from a2a_project.celery import app
from tasks_app.dispatch.queues import queue_names
from tasks_app.status import Lane
from workers.consumer import CPU_PREFETCH, Consumer

SLOTS = 8


def consumer(*lanes: Lane) -> Consumer:
    """Celery's, as a worker of these lanes makes it."""
    own = Celery(set_as_current=False)
    own.config_from_object(
        {
            "task_queues": app.conf.task_queues,
            "worker_consumer": app.conf.worker_consumer,
            "worker_prefetch_multiplier": app.conf.worker_prefetch_multiplier,
        }
    )
    own.amqp.queues.select([name for lane in lanes for name in queue_names(lane)])
    worker: Any = WorkController(app=own, concurrency=SLOTS, pool=BasePool)
    made: Consumer = worker.consumer
    return made


@pytest.fixture(autouse=True)
def _no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our receiver would make this process a worker's."""
    monkeypatch.setattr(worker_init, "receivers", [])


@pytest.mark.parametrize(
    ("lanes", "held"), [((Lane.CPU,), CPU_PREFETCH), ((Lane.IO,), SLOTS), ((Lane.CPU, Lane.IO), SLOTS)]
)
def test_a_worker_holds_what_its_lane_asks_for_and_goes_back_to_it_after_a_reconnect(
    lanes: tuple[Lane, ...], held: int
) -> None:
    made = consumer(*lanes)
    assert made.initial_prefetch_count == made.max_prefetch_count == held
    made.initial_prefetch_count = 1  # Celery does so on a new connection, while its jobs of the last one still run
    assert made.max_prefetch_count == held
