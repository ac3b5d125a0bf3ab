"""Fixtures for all tests. What needs a broker or a running stack is marked ``services``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from stack import ensure_services
from stack.databases import database_name, fresh_database
from tasks_app import authentication
from tasks_app.models import Client
from tests.factory import Factory
from tests.live import Live


@pytest.fixture(autouse=True)
def _nobody_is_remembered() -> None:
    authentication.forget()


@pytest.fixture
def owner(db: None) -> Client:
    """The client that the tests' tasks belong to."""
    return Client.objects.get_or_create(name="owner")[0]


@pytest.fixture
def factory(owner: Client) -> Factory:
    """Makes tasks and moves them on by the engine's verbs, as the processes would."""
    return Factory(owner)


@pytest.fixture(scope="session")
def services() -> dict[str, str]:
    """The addresses of real RabbitMQ, PostgreSQL and Redis; starts them where none is given."""
    given = {name: os.environ[name] for name in ("DATABASE_URL", "A2A_BROKER_URL", "REDIS_URL") if name in os.environ}
    return given if len(given) == 3 else ensure_services()


@pytest.fixture(scope="session")
def live(services: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The whole stack on real RabbitMQ, PostgreSQL and Redis. Nothing restarts by itself: tests kill, and put back."""
    database_url = fresh_database(services["DATABASE_URL"], f"{database_name(services['DATABASE_URL'])}_live")
    # Few slots, so that a test can fill them.
    env = {**services, "DATABASE_URL": database_url, "A2A_IO_SLOTS": "16"}
    made = Live.started(tmp_path_factory.mktemp("live"), env, autorestart=False, embedded=False)
    yield made
    made.close()
