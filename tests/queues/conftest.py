"""The whole system on each of the queue systems in turn; on memory, in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connection, connections

from stack.databases import database_name, fresh_database
from tests.live import Live
from tests.queues.systems import Broker, Memory, RabbitMQ, Redis, Sqs
from workers.testing import one_process

#: One slot in the cpu lane, so that a test can keep it busy.
SLOTS = {"A2A_CPU_SLOTS": "1", "A2A_IO_SLOTS": "4"}
PROCESSES = ["web", "dispatcher", "worker-cpu", "worker-io"]
LOGGERS = ("workers.consumer", "tasks_app.brokers")


class System:
    """A queue system, and the application on it."""

    #: How many tasks of the cpu lane run at once.
    cpu_slots = 1

    def __init__(self, broker: Broker, live: Live) -> None:
        self.broker = broker
        self.live = live

    def log(self) -> str:
        """What the io lane's worker has said of its messages."""
        return self.live.stack.log("worker-io")

    def workers(self) -> list[int]:
        """The pids of the workers, 0 for one that has died."""
        return [self.live.stack.pid(name) for name in PROCESSES if name.startswith("worker")]


class InOneProcess(System):
    """Without a stack: the doors are called in this process."""

    cpu_slots = 2  # its threads are both lanes'

    def __init__(self, database_url: str, told: list[str]) -> None:
        live = Live.__new__(Live)
        live.database_url = database_url
        transport = httpx.WSGITransport(app=get_wsgi_application())
        live.http = httpx.Client(transport=transport, base_url="http://localhost")
        super().__init__(Memory(), live)
        self._told = told

    def log(self) -> str:
        return "\n".join(self._told)

    def workers(self) -> list[int]:
        return []


@pytest.fixture(scope="session")
def queues_database(services: dict[str, str]) -> str:
    """One for all of them, as they run one after the other."""
    url = services["DATABASE_URL"]
    return fresh_database(url, f"{database_name(url)}_queues")


@pytest.fixture(scope="module", params=["rabbitmq", "redis", "sqs", "memory"])
def system(request: pytest.FixtureRequest, services: dict[str, str]) -> Iterator[System]:
    if request.param == "memory":
        yield from in_one_process(request)
        return
    folder = request.getfixturevalue("tmp_path_factory").mktemp(request.param)
    broker: Broker
    if request.param == "sqs":
        broker = Sqs(folder / "moto.log")
    elif request.param == "redis":
        broker = Redis(f"{services['REDIS_URL'].rpartition('/')[0]}/1")
    else:
        broker = RabbitMQ(services["A2A_BROKER_URL"])
    database = {"DATABASE_URL": request.getfixturevalue("queues_database")}
    env = {**services, **database, **broker.env, **SLOTS, "A2A_AGENTS": "tests.agents"}
    try:
        live = Live.started(folder, env, autorestart=False, embedded=False, processes=PROCESSES)
        yield System(broker, live)
        live.close()
    finally:
        broker.close()


def in_one_process(request: pytest.FixtureRequest) -> Iterator[System]:
    """On the same database as the others, and not on pytest's: that is emptied after each test."""
    told, url = _Told(), request.getfixturevalue("queues_database")
    settings = connections.settings["default"]
    name, settings["NAME"] = settings["NAME"], database_name(url)
    try:
        with request.getfixturevalue("django_db_blocker").unblock():
            connection.close()
            call_command("migrate", interactive=False, verbosity=0)
            with one_process(slots=1):
                yield InOneProcess(url, told.lines)
            connection.close()
    finally:
        settings["NAME"] = name
        told.stop()


class _Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def stop(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
