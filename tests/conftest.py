"""Fixtures for all tests. What needs a broker or a running stack is marked ``services``."""

from __future__ import annotations

import pytest

from tasks_app import authentication
from tasks_app.models import Client
from tests.factory import Factory


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
