"""Fixtures of the fault tests: a load under way, the services to kill, and everything put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import pytest
from django.db import connections

from stack import Services
from tests.faults.broker import Broker
from tests.faults.load import Item, Load, images, mixed, timed
from tests.faults.processes import put_back
from tests.live import Live


def batch() -> list[Item]:
    """Some of everything, the same each time: enough in both lanes to be hit in the middle."""
    rng = random.Random(7)
    some = [*islice(mixed(rng, longest_s=2.0), 30), *images(rng, 8)]
    some += [timed("ledger-io", seconds=2.0, door="a2a") for _ in range(4)]
    some += [timed("ledger-cpu", seconds=0.6, door="a2a") for _ in range(4)]
    rng.shuffle(some)
    return some


@pytest.fixture
def load(live: Live) -> Iterator[Load]:
    """A load that has been accepted. What the test kills is started again after it."""
    made = Load(live)
    made.send(batch())
    yield made
    put_back(live)


@pytest.fixture
def service(services: dict[str, str]) -> Services:
    """The services, to be killed and started again; all tests of the session share them."""
    return Services(env={})


@pytest.fixture
def broker(services: dict[str, str]) -> Broker:
    return Broker(services["A2A_BROKER_URL"])


@pytest.fixture(autouse=True)
def _no_stale_connection() -> Iterator[None]:
    """Django's connection of this process may be to a PostgreSQL that a test has killed."""
    yield
    connections.close_all()
