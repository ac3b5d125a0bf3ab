"""Replaces queues that take and give nothing while their broker is well.

A RabbitMQ that is killed while it makes a quorum queue may come back with that queue without a leader, and never elect
one: publishers wait for its confirms, and workers for its answer before they consume any other. Its deletion helps, and
costs nothing: what was in it are hints, which are published again from the database.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery

from tasks_app.brokers.options import timeouts

log = logging.getLogger(__name__)
#: A queue that has not answered after this long, on a connection that works, may be stuck.
PROBE_S = 2
#: One that does not answer so long after that either, is: a broker that has just started, or a cluster that lost a
#: node, takes a while to choose its queues' leaders.
SUSPECTED_S = 4.0


class Stuck(Exception):
    """A queue does not answer. Nothing can be published until it does, or is replaced."""


class Probe:
    """Asks RabbitMQ's queues whether they answer; for one dispatcher, which connects anew after each :class:`Stuck`."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._suspect = ""
        self._since = 0.0

    def look(self, channel: Any, queues: Sequence[Any]) -> None:
        """Raises :class:`Stuck` for the first that does not answer.

        That is remembered. If it is the same again later, it is deleted and declared anew before. Also raises what the
        broker or the line to it raises.
        """
        stuck = self._first_stuck(queues)
        if stuck is None:
            self._suspect = ""
            return
        if stuck.name != self._suspect:
            self._suspect, self._since = stuck.name, time.monotonic()
        elif time.monotonic() - self._since >= SUSPECTED_S:
            log.error("queue %s does not answer, though its broker does: it is deleted and declared anew", stuck.name)
            self._suspect = ""
            channel.queue_delete(stuck.name)
            stuck(channel).declare()
        raise Stuck(f"queue {stuck.name} did not answer")

    def _first_stuck(self, queues: Sequence[Any]) -> Any:
        """The first queue that does not answer; on a connection of its own, which is of no use after that."""
        options = timeouts(self._app.conf.broker_write_url, PROBE_S)
        connection = self._app.connection_for_write(transport_options=options)
        try:
            connection.ensure_connection(max_retries=1, timeout=PROBE_S)
            channel: Any = connection.default_channel
            for queue in queues:
                try:
                    _ask(channel, queue.name)
                except TimeoutError:
                    # Without a word: a channel that waits for an answer takes no farewell either.
                    channel.connection.collect()
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
