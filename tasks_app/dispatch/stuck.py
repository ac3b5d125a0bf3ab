"""Replaces queues that take and give nothing while their broker is well.

A RabbitMQ that is killed while it makes a quorum queue may come back with that queue without a leader, and never elect
one: publishers wait for its confirms, and workers for its answer before they consume any other. Its deletion helps, and
costs nothing: what was in it are hints, which are published again from the database.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from celery import Celery

from tasks_app.brokers.options import timeouts

log = logging.getLogger(__name__)
#: A queue that has not answered after this long, on a connection that works, is stuck.
PROBE_S = 2


def replace_stuck(app: Celery, channel: Any, queues: list[Any]) -> None:
    """Deletes those of the declared queues that do not answer, and declares them anew, on a channel of RabbitMQ's.

    Raises what the broker or the line to it raises.
    """
    left = list(queues)
    while left:
        stuck = _first_stuck(app, left)
        if stuck is None:
            return
        log.error("queue %s does not answer, though its broker does: it is deleted and declared anew", stuck.name)
        channel.queue_delete(stuck.name)
        stuck(channel).declare()
        left = left[left.index(stuck) + 1 :]


def _first_stuck(app: Celery, queues: list[Any]) -> Any:
    """The first queue that does not answer; on a connection of its own, which is of no use after that."""
    connection = app.connection_for_write(transport_options=timeouts(app.conf.broker_write_url, PROBE_S))
    try:
        connection.ensure_connection(max_retries=1, timeout=PROBE_S)
        channel: Any = connection.default_channel
        for queue in queues:
            try:
                _ask(channel, queue.name)
            except TimeoutError:
                return queue
        return None
    finally:
        with contextlib.suppress(Exception):
            connection.collect(socket_timeout=PROBE_S)


def _ask(channel: Any, name: str) -> None:
    """Takes a message, if there is one, and puts it back where it was. Raises TimeoutError without an answer."""
    message = channel.basic_get(name)
    if message is not None:
        channel.basic_reject(message.delivery_tag, requeue=True)
