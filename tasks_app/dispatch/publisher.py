"""Publishes hints to the broker: in batches over one channel, waiting once per batch for the broker's confirms."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from celery import Celery
from kombu import Producer

from tasks_app.brokers.options import AMQP, kind, timeouts
from tasks_app.dispatch.queues import JOB_NAMES, job_id, queue_name
from tasks_app.dispatch.stuck import Probe
from tasks_app.engine import Hint
from tasks_app.prefix import prefixed
from tasks_app.status import Lane

CONFIRM_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
#: A broker that is away is tried again so long after, when there is nothing to publish.
RETRY_S = 5.0


class PublishFailed(Exception):
    """The broker did not take the batch, or did not say so in time. The hints are published again later."""


class Publisher:
    """One connection and channel to the broker; opened when needed, and again after an error."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._is_amqp = kind(app.conf.broker_write_url) == AMQP
        self._connection: Any = None
        self._producer: Any = None
        self._made: dict[Lane, Any] = {}
        self._confirmed = 0
        self._refused = 0
        self._sent = 0
        self._retry_at = 0.0
        self._probe = Probe(app)

    def keep_open(self) -> None:
        """Opens the connection to RabbitMQ if it was lost, also when there is nothing to publish, and keeps it alive.

        So a broker that has restarted is made ready for workers, who cannot begin before. Raises
        :class:`PublishFailed`, then for a while does nothing.
        """
        if not self._is_amqp or time.monotonic() < self._retry_at:
            return
        with self._failing():
            self._opened()
            self._connection.heartbeat_check()
            with contextlib.suppress(TimeoutError):
                self._connection.drain_events(timeout=0)

    def publish(self, hints: Sequence[Hint]) -> None:
        """Hands the hints to the broker. Raises :class:`PublishFailed`; then some may have been taken."""
        with self._failing():
            producer = self._opened()
            # One round trip for all of them where the transport can (Redis); elsewhere it changes nothing.
            with producer.batch():
                for hint in hints:
                    self._send(producer, hint)
            self._wait_for_confirms()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever goes wrong, the connection is dropped, and it is a :class:`PublishFailed`."""
        try:
            yield
        except Exception as error:
            self.close()
            self._retry_at = time.monotonic() + RETRY_S
            raise PublishFailed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Drops the connection, without waiting for a broker that is away."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.collect(socket_timeout=CLOSE_TIMEOUT_S)
            self._connection = self._producer = None

    def _opened(self) -> Any:
        if self._producer is None:
            options = timeouts(self._app.conf.broker_write_url, CONFIRM_TIMEOUT_S)
            self._connection = self._app.connection_for_write(transport_options=options)
            self._connection.ensure_connection(max_retries=1, timeout=CONFIRM_TIMEOUT_S)
            channel = self._connection.default_channel
            self._declare(channel)
            self._confirmed = self._sent = self._refused = 0
            if self._is_amqp:
                channel.confirm_select()
                channel.events["basic_ack"].add(self._on_ack)
                channel.events["basic_nack"].add(self._on_nack)
            self._producer = Producer(channel, serializer="json", auto_declare=False)
        return self._producer

    def _declare(self, channel: Any) -> None:
        named = [*self._app.amqp.queues.values(), self._app.conf.a2a_dead_queue]
        for queue in named:
            if queue is not None:
                queue(channel).declare()
        if self._is_amqp:
            # Not the dead letters: nobody publishes those again.
            self._probe.look(channel, list(self._app.amqp.queues.values()))

    def message(self, hint: Hint) -> Any:
        """As Celery makes it (``as_task_v2``), from one that Celery made: all but its id and arguments is the same."""
        made = self._made.get(hint.lane)
        if made is None:
            made = self._made[hint.lane] = self._app.amqp.as_task_v2("", JOB_NAMES[hint.lane], (), ignore_result=True)
        job, args = job_id(hint.task_id, hint.epoch), (str(hint.task_id), hint.epoch)
        return made._replace(
            headers={**made.headers, "id": job, "root_id": job, "argsrepr": repr(args)},
            properties={**made.properties, "correlation_id": job},
            body=(args, *made.body[1:]),
        )

    def _send(self, producer: Any, hint: Hint) -> None:
        message = self.message(hint)
        # By the default exchange, straight to the queue: on Redis any other costs a look-up for every message, and to
        # SQS an exchange is only what one process remembers.
        producer.publish(
            message.body,
            exchange="",
            routing_key=prefixed(queue_name(hint.lane, hint.priority)),
            headers=message.headers,
            delivery_mode=2,
            retry=False,
            **message.properties,
        )
        self._sent += 1

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._confirmed = max(self._confirmed, delivery_tag) if multiple else self._confirmed + 1

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        self._refused += 1

    def _wait_for_confirms(self) -> None:
        if not self._is_amqp:
            return
        deadline = time.monotonic() + CONFIRM_TIMEOUT_S
        while self._confirmed < self._sent:
            if self._refused or time.monotonic() > deadline:
                raise PublishFailed("the broker refused a message" if self._refused else "no confirm in time")
            self._connection.drain_events(timeout=max(0.01, deadline - time.monotonic()))
