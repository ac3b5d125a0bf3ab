"""The queue systems under test: how each is run, and how a test puts something into its queues."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from kombu import Connection, Producer

from stack import Services
from stack.health import http_answers
from stack.ports import LOOPBACK, find_free
from tasks_app.brokers.options import transport_options
from tasks_app.dispatch.queues import DEAD_QUEUE
from tests.live import wait_for

#: Not the other tests' queues: the workers of their stack would take what is meant for ours.
PREFIX = "suite."


class Broker:
    """A queue system that runs, at ``url``, with our queues' names behind ``prefix``."""

    prefix = PREFIX
    #: What ``A2A_BROKER_OPTIONS`` says in these tests.
    options = ""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def env(self) -> dict[str, str]:
        return {"A2A_BROKER_URL": self.url, "A2A_QUEUE_PREFIX": self.prefix, "A2A_BROKER_OPTIONS": self.options}

    @contextmanager
    def channel(self) -> Iterator[Any]:
        options = transport_options(self.url, self.options)
        with Connection(self.url, transport_options=options) as connection:
            yield connection.default_channel

    def publish(self, queue: str, *messages: dict[str, Any]) -> None:
        """Messages as a program with kombu sends them; each is what ``Producer.publish`` takes."""
        with self.channel() as channel:
            producer = Producer(channel, auto_declare=False)
            for message in messages:
                producer.publish(**message, exchange="", routing_key=self.prefix + queue)

    def put_raw(self, queue: str, texts: list[str]) -> list[str]:
        """What no program with kombu sends; those of the texts that this broker can hold."""
        return []

    def purge(self, queue: str) -> int:
        """How many messages were thrown away."""
        with self.channel() as channel:
            return int(channel.queue_purge(self.prefix + queue))

    def dead_letters(self) -> int | None:
        """How many messages were refused and kept; None where none are kept."""
        return None

    def kill(self) -> None:
        """Ends the broker as by kill -9."""
        raise NotImplementedError

    def start_again(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Ends what this object started."""


class RabbitMQ(Broker):
    name = "rabbitmq"

    def dead_letters(self) -> int | None:
        with self.channel() as channel:
            return int(channel.queue_declare(self.prefix + DEAD_QUEUE, passive=True).message_count)

    def kill(self) -> None:
        Services(env={}).kill(self.name)

    def start_again(self) -> None:
        services = Services(env={})
        services.start_process(self.name)
        services.wait_ready(self.name)


class Redis(RabbitMQ):
    name = "redis"

    def dead_letters(self) -> int | None:
        return None

    def put_raw(self, queue: str, texts: list[str]) -> list[str]:
        with redis.Redis.from_url(self.url) as client:
            for text in texts:
                client.lpush(self.prefix + queue, text.encode("utf-8", "surrogateescape"))
        return texts


class Sqs(Broker):
    """moto's server. Killed, it forgets its queues: as if somebody had deleted them all."""

    #: What a killed worker had asked for goes to nobody for so long.
    options = '{"wait_time_seconds":2}'

    def __init__(self, log: Path) -> None:
        self._log, self._port = log, find_free()
        super().__init__(f"sqs://key:secret@{LOOPBACK}:{self._port}")
        self.start_again()

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"AWS_DEFAULT_REGION": "us-east-1"}

    def put_raw(self, queue: str, texts: list[str]) -> list[str]:
        texts = [text for text in texts if text.isprintable()]
        with self.channel() as channel:
            url = channel._new_queue(self.prefix + queue)
            for text in texts:
                channel.sqs().send_message(QueueUrl=url, MessageBody=text)
        return texts

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def start_again(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self._port)]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_for(lambda: http_answers(LOOPBACK, self._port, "/moto-api/"), timeout_s=30, what="moto answers")

    def close(self) -> None:
        self.kill()


class Memory(Broker):
    """Queues in this process, which ``workers.testing.one_process`` works on."""

    prefix = ""

    def __init__(self) -> None:
        super().__init__("memory://")
