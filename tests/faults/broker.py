"""What the fault tests do to the broker: purge and delete its queues, repeat its messages, put garbage among them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
from celery import Celery
from kombu import Connection, Producer

from stack import Services, binaries
from tasks_app.dispatch.queues import JOB_NAMES, job_id, queue_name, queue_names
from tasks_app.status import Lane, Priority
from tests.live import Live

SYSTEM_QUEUE = "a2a.system"
QUEUES = {name: lane for lane in Lane for name in queue_names(lane)}


class Broker:
    """The broker, as an operator meets it who makes mistakes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._jobs = Celery(set_as_current=False).amqp

    def purge(self) -> None:
        """Empties every queue that is there; one that was deleted may not have been declared again yet."""
        with Connection(self._url) as connection:
            for name in QUEUES:
                channel: Any = connection.channel()
                with suppress(*connection.channel_errors):
                    channel.queue_purge(name)
                    channel.close()

    def delete(self, *names: str) -> None:
        """Deletes these queues, or every one, under its consumers and with what is in it."""
        with self._channel() as channel:
            for name in names or (*QUEUES, SYSTEM_QUEUE):
                channel.queue_delete(name)

    def replace_by_classic(self, name: str) -> None:
        """Puts a queue of another kind in the place of one of ours."""
        with self._channel() as channel:
            channel.queue_delete(name)
            channel.queue_declare(name, durable=True, auto_delete=False)

    def silence(self, service: Services, name: str) -> None:
        """Has a queue answer nothing any more, neither publishers nor consumers, while the broker is well.

        As a queue without a leader does: RabbitMQ leaves one that was being made when it was killed.
        """
        node = psutil.Process(service.pid("rabbitmq"))
        server = binaries.find_rabbitmq()
        assert server is not None
        command = [str(server.with_name("rabbitmqctl")), "eval", f'sys:suspend(list_to_atom("%2F_{name}")).']
        user, group = node.uids().effective, node.gids().effective
        subprocess.run(command, env=node.environ(), user=user, group=group, cwd="/", check=True, timeout=60)

    def consumers(self) -> dict[str, int]:
        """How many consume each queue. Raises the channel's error for a queue that is not there."""
        with self._channel() as channel:
            return {name: channel.queue_declare(name, passive=True).consumer_count for name in QUEUES}

    def repeat(self, live: Live, task_ids: Iterable[str], *, times: int) -> None:
        """Publishes the hint of each task so many times more, with the epoch that it has now."""
        query = "SELECT id, epoch, lane, priority FROM tasks_app_task WHERE id = ANY(%s::uuid[])"
        rows = live.sql(query, list(task_ids))
        with self._channel() as channel:
            for task_id, epoch, lane, priority in rows * times:
                queue = queue_name(lane, Priority(priority))
                self._publish_job(channel, queue, JOB_NAMES[Lane(lane)], job_id(task_id, epoch), str(task_id), epoch)

    def litter(self) -> None:
        """Puts into every queue what no worker can use: no JSON, no job, no such job, no such task."""
        with self._channel() as channel:
            for name, lane in QUEUES.items():
                for body, content_type in ((b"{not json", "application/json"), (b"[1]", "application/json")):
                    self._publish(channel, name, body, content_type=content_type, content_encoding="utf-8")
                self._publish(channel, name, b"\x80\x04.", content_type="application/x-python-serialize")
                job = JOB_NAMES[lane]
                self._publish_job(channel, name, "a2a.no_such_job", str(uuid4()))
                for arguments in ((), ("no-uuid", 0), (str(uuid4()), 0), (str(uuid4()), "no-epoch")):
                    self._publish_job(channel, name, job, str(uuid4()), *arguments)

    def _publish_job(self, channel: Any, queue: str, job: str, id_: str, *arguments: Any) -> None:
        message = self._jobs.as_task_v2(id_, job, args=arguments)
        self._publish(channel, queue, message.body, headers=message.headers, serializer="json", **message.properties)

    def _publish(self, channel: Any, queue: str, body: Any, **options: Any) -> None:
        Producer(channel).publish(body, exchange="", routing_key=queue, **options)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with Connection(self._url) as connection:
            yield connection.default_channel
