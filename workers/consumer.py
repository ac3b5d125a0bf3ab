"""Celery's consumer, which no message can end: what cannot be run is told in one line and refused.

Refused means dead-lettered on RabbitMQ, and deleted elsewhere (on SQS a redrive policy of the queue's comes first). A
hint that is refused by mistake is published again from the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

from tasks_app.dispatch.queues import JOB_NAMES, lanes_of
from tasks_app.status import Lane
from workers.messages import problem

log = logging.getLogger(__name__)
#: What a worker of the cpu lane holds of each queue beyond what its processes run. They take it in the order of its
#: arrival, so what is more urgent waits for it; Celery would hold one for each process.
CPU_PREFETCH = 1
#: Of what a message held, the log gets so much.
SHOWN_CHARS = 200
_Consumer: Any = CeleryConsumer  # its stubs know little of it


class Consumer(_Consumer):  # type: ignore[misc]
    """Named by the setting ``worker_consumer``."""

    class Blueprint(_Consumer.Blueprint):  # type: ignore[misc]
        # Celery's step declares 28 delay queues for ETAs wherever it sees quorum queues. Nothing here has an ETA.
        default_steps = tuple(step for step in _Consumer.Blueprint.default_steps if "delayed_delivery" not in step)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._is_cpu:
            self.initial_prefetch_count = CPU_PREFETCH

    @property
    def max_prefetch_count(self) -> int:
        """What Celery goes back to after it has lost its connection."""
        return CPU_PREFETCH if self._is_cpu else int(super().max_prefetch_count)

    @property
    def _is_cpu(self) -> bool:
        return lanes_of(self.app.amqp.queues.consume_from) == [Lane.CPU]

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        receive = super().create_task_handler(*args, **kwargs)
        jobs = {JOB_NAMES[lane] for lane in lanes_of(self.app.amqp.queues.consume_from)}

        def judged(message: Any) -> Any:
            reason = problem(message, jobs)
            if reason:
                return self._refuse(message, reason)
            try:
                return receive(message)
            except (*self.connection_errors, *self.channel_errors):
                raise
            except Exception as error:
                return self._refuse(message, f"Celery cannot receive it: {type(error).__name__}: {error}")

        return judged

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Celery's own acknowledges: then nothing of it would be left."""
        self._refuse(message, f"its body cannot be read: {type(exc).__name__}: {exc}")

    def on_unknown_message(self, body: Any, message: Any) -> None:
        self._refuse(message, "it is no job of Celery's")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._refuse(message, f"nobody knows its job {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._refuse(message, f"{type(exc).__name__}: {exc}")

    def _refuse(self, message: Any, reason: str) -> None:
        queue = (message.delivery_info or {}).get("routing_key") or "a queue"
        shown = [repr(part)[:SHOWN_CHARS] for part in (message.headers, message.body)]
        log.error("refused a message in %s: %s; headers %s, body %s", queue, reason, *shown)
        if not message.acknowledged:
            message.reject_log_error(log, self.connection_errors)
