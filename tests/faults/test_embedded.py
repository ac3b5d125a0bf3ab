"""The embedded default: Redis as the broker, killed in the middle; its own PostgreSQL, killed too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import batch
from tests.faults.load import Load
from tests.live import Live

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A stack as ``make demo`` starts it, with data of its own."""
    names = ["web", "dispatcher", "worker-cpu", "worker-io", "worker-system", "beat"]
    state_dir: Path = tmp_path_factory.mktemp("embedded")
    made = Live.started(state_dir, {}, processes=names, embedded=True)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["redis", "postgresql"])
def test_killing_an_embedded_server_in_the_middle_loses_nothing(embedded: Live, name: str) -> None:
    load = Load(embedded)
    load.send(batch())
    load.under_way()
    embedded.stack.kill(name)
    load.ends_well()
