"""``manage.py a2a --validate-queues`` and ``--validate-config`` against a RabbitMQ and a PostgreSQL that run."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp import Message
from kombu import Connection, Exchange, Queue

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "validate."
NAME = f"{PREFIX}a2a.cpu.low"


@pytest.fixture(scope="module")
def broker(services: dict[str, str]) -> str:
    """RabbitMQ, where our queues have a prefix: others would be taken from the workers of other tests."""
    return services["A2A_BROKER_URL"]


@pytest.fixture
def fresh(broker: str) -> Iterator[Connection]:
    """A connection to the broker, which knows none of our queues; nor does it afterwards."""
    with Connection(broker) as connection:
        _forget(connection)
        yield connection
        _forget(connection)


def validate(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "A2A_OPEN_MODE": "0", "A2A_DEBUG": "0", "A2A_SECRET_KEY": secrets.token_urlsafe(64)}
    env["A2A_QUEUE_PREFIX"] = PREFIX
    command = [sys.executable, "manage.py", "a2a", *flags]
    return subprocess.run(command, cwd=ROOT, env=env | variables, capture_output=True, text=True, timeout=60)


def test_a_fresh_broker_gets_every_queue_and_the_dead_letters_too(broker: str, fresh: Connection) -> None:
    done = validate("--validate-queues", A2A_BROKER_URL=broker)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("queues: ok (10 at amqp://guest:**@")
    assert all(line.endswith("ok") and "quorum" in line for line in lines[:-1])
    with _channel(fresh) as channel:
        assert channel.queue_declare(NAME, passive=True).queue == NAME
        # What a worker refuses arrives where nobody loses it.
        channel.exchange_declare(f"{PREFIX}a2a.dead", "fanout", passive=True)
        assert channel.queue_declare(f"{PREFIX}a2a.dead", passive=True).queue == f"{PREFIX}a2a.dead"


def test_what_waits_and_who_consumes_is_told(broker: str, fresh: Connection) -> None:
    assert validate("--validate-queues", A2A_BROKER_URL=broker).returncode == 0
    with _channel(fresh) as channel:
        channel.basic_publish_confirm(Message(b"x"), exchange=f"{PREFIX}a2a", routing_key=NAME)
        channel.basic_consume(f"{PREFIX}a2a.system", callback=lambda message: None)
        lines = validate("--validate-queues", A2A_BROKER_URL=broker).stdout.splitlines()
    told = {line.split()[0]: line.split() for line in lines}
    assert told[NAME][2:6] == ["ready", "1", "consumers", "0"]
    assert told[f"{PREFIX}a2a.system"][2:6] == ["ready", "0", "consumers", "1"]


def test_a_queue_of_another_type_is_named_with_what_to_do(broker: str, fresh: Connection) -> None:
    with _channel(fresh) as channel:
        Queue(NAME, durable=True)(channel).queue_declare()
    done = validate("--validate-queues", A2A_BROKER_URL=broker)
    assert (done.returncode, done.stderr) == (1, "")
    [wrong] = [line for line in done.stdout.splitlines() if "WRONG" in line]
    assert wrong.startswith(NAME)
    assert f"the queue {NAME} exists with other arguments: inequivalent arg 'x-" in wrong
    assert f"made anew with x-queue-type=quorum, x-dead-letter-exchange={PREFIX}a2a.dead" in wrong
    assert f"rabbitmqctl delete_queue -p VHOST {NAME}" in wrong
    assert done.stdout.splitlines()[-1] == "queues: 1 of 10 wrong"


def test_an_exchange_of_another_type_is_named_as_an_exchange(broker: str, fresh: Connection) -> None:
    with _channel(fresh) as channel:
        Exchange(f"{PREFIX}a2a.dead", "topic", durable=True)(channel).declare()
    done = validate("--validate-queues", A2A_BROKER_URL=broker)
    assert done.returncode == 1
    [wrong] = [line for line in done.stdout.splitlines() if "WRONG" in line]
    assert f"the exchange {PREFIX}a2a.dead exists with other arguments" in wrong


@pytest.mark.parametrize("account", ["guest:wrong", "nobody:guest"])
def test_a_refused_login_is_one_line_without_the_password(broker: str, account: str) -> None:
    done = validate("--validate-queues", A2A_BROKER_URL=broker.replace("guest:guest", account))
    assert (done.returncode, done.stderr) == (2, "")
    assert len(done.stdout.splitlines()) == 1
    assert "ACCESS_REFUSED" in done.stdout
    assert account not in done.stdout


def test_a_broker_that_is_away_is_one_line_and_exit_code_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        port = taken.getsockname()[1]
        done = validate("--validate-queues", A2A_BROKER_URL=f"amqp://guest:guest@127.0.0.1:{port}//")
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == (
        f"queues: the broker at amqp://guest:**@127.0.0.1:{port}// cannot be used: [Errno 111] Connection refused\n"
    )


def test_a_broker_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}//"
        done = validate("--validate-queues", A2A_BROKER_URL=url)
    assert done.returncode == 2
    assert "timed out" in done.stdout


def test_a_right_configuration_is_ok(services: dict[str, str], broker: str) -> None:
    production = {"A2A_TLS": "1", "A2A_ALLOWED_HOSTS": "tasks.example"}
    done = validate("--validate-config", **services | production | {"A2A_BROKER_URL": broker})
    assert (done.returncode, done.stdout) == (0, "configuration: ok\n"), done.stderr


def test_warnings_are_told_and_allowed(services: dict[str, str], broker: str) -> None:
    done = validate("--validate-config", **services | {"A2A_BROKER_URL": broker, "A2A_OPEN_MODE": "1"})
    assert done.returncode == 0
    assert "warning  a2a.E012: The open mode is on" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("configuration: ok (")


def _channel(connection: Connection) -> Any:
    """A channel of py-amqp, which kombu's type does not show."""
    return connection.channel()


def _forget(connection: Connection) -> None:
    lanes = [f"a2a.{lane}.{priority}" for lane in ("cpu", "io") for priority in ("critical", "high", "normal", "low")]
    with _channel(connection) as channel:
        for name in [*lanes, "a2a.system", "a2a.dead"]:
            channel.queue_delete(f"{PREFIX}{name}")
        for name in ("a2a", "a2a.dead"):
            channel.exchange_delete(f"{PREFIX}{name}")
