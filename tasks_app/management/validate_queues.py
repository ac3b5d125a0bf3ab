"""``manage.py a2a --validate-queues``: declares every queue at the broker, tells what is in each, and a verdict.

Declaring is what verifies: RabbitMQ refuses a queue that exists with other arguments (a classic one, say).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery, current_app
from django.core.management.base import OutputWrapper
from kombu import Queue
from kombu.exceptions import KombuError

from tasks_app.brokers.options import timeouts

TIMEOUT_S = 5
OK, WRONG, AWAY = 0, 1, 2


class BrokerAway(Exception):
    """The broker cannot be reached, refuses the login, or went away meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A queue as the broker has it; ``consumers`` is None where the transport cannot say."""

    name: str
    kind: str
    ready: int = 0
    consumers: int | None = None
    problem: str = ""


def validate_queues(out: OutputWrapper) -> int:
    """Prints a line per queue; 0 if all are as declared, 1 if one is not, 2 if the broker is away."""
    app: Celery = current_app
    address = app.connection_for_write().as_uri()
    try:
        found = _declare_all(app)
    except BrokerAway as error:
        out.write(f"queues: the broker at {address} cannot be used: {error}")
        return AWAY
    width = max(len(queue.name) for queue in found)
    for queue in found:
        out.write(_line(queue, width))
    wrong = sum(bool(queue.problem) for queue in found)
    out.write(f"queues: {wrong} of {len(found)} wrong" if wrong else f"queues: ok ({len(found)} at {address})")
    return WRONG if wrong else OK


def all_queues(app: Celery) -> list[Queue]:
    """What the workers consume, and where dead letters go (the app carries it as ``a2a_dead_queue``)."""
    dead = app.conf.get("a2a_dead_queue")
    return [*app.amqp.queues.values(), *([dead] if dead is not None else [])]


def _declare_all(app: Celery) -> list[Found]:
    with _connected(app) as connection:
        # A refusal closes its channel, so each queue has one of its own.
        return [_declare(connection, queue) for queue in all_queues(app)]


def _declare(connection: Any, queue: Queue) -> Found:
    knows_types = connection.transport.driver_type == "amqp"
    kind = (queue.queue_arguments or {}).get("x-queue-type", "classic") if knows_types else "-"
    try:
        with connection.channel() as channel:
            bound: Any = queue(channel)
            bound.declare()
            answer = bound.queue_declare()
    except connection.channel_errors as error:
        return Found(name=queue.name, kind=kind, problem=_problem(queue, error))
    consumers = answer.consumer_count if knows_types else None
    return Found(name=queue.name, kind=kind, ready=answer.message_count, consumers=consumers)


@contextmanager
def _connected(app: Celery) -> Iterator[Any]:
    options = timeouts(str(app.conf.broker_write_url), TIMEOUT_S)
    connection: Any = app.connection_for_write(connect_timeout=TIMEOUT_S, transport_options=options)
    # A refused login or virtual host is, to amqp, an error of the channel.
    theirs: tuple[type[Exception], ...] = (*connection.connection_errors, *connection.channel_errors)
    errors: tuple[type[Exception], ...] = (*theirs, KombuError, OSError)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=TIMEOUT_S)
        yield connection
    except errors as error:
        raise BrokerAway(" ".join(str(error).split()) or type(error).__name__) from error
    finally:
        connection.release()


def _problem(queue: Queue, error: Exception) -> str:
    reason = getattr(error, "reply_text", "") or str(error)
    if not reason.startswith("PRECONDITION_FAILED"):
        return reason
    if " for exchange " in reason:
        what, command = f"exchange {queue.exchange.name}", "delete it in RabbitMQ's management page"
    else:
        what, command = f"queue {queue.name}", f"delete it (rabbitmqctl delete_queue -p VHOST {queue.name})"
        wanted = ", ".join(f"{name}={value}" for name, value in (queue.queue_arguments or {}).items())
        command += f" so that it is made anew with {wanted}"
    advice = f"stop the workers, {command}, and run this again; no task is lost, the database has them all"
    return f"the {what} exists with other arguments: {reason.partition(' - ')[2]}; {advice}"


def _line(queue: Found, width: int) -> str:
    head = f"{queue.name:<{width}}  {queue.kind:<7}"
    if queue.problem:
        return f"{head}  WRONG: {queue.problem}"
    consumers = "-" if queue.consumers is None else queue.consumers
    return f"{head}  ready {queue.ready:<6}  consumers {consumers:<4}  ok"
