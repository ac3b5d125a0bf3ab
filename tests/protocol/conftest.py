"""Fixtures of the protocol tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocol.doors import Doors


@pytest.fixture
def doors(transactional_db: None) -> Iterator[Doors]:
    """Both doors, on the tests' database."""
    made = Doors()
    yield made
    made.close()
