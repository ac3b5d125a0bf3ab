"""Everything at once: a load of mixed tasks flows while every kind of fault hits the stack (DESIGN section 9).

The seed decides the load and the schedule; ``A2A_TEST_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from stack import Services
from tests.faults.broker import Broker
from tests.faults.chaos import Chaos
from tests.faults.load import Load, mixed
from tests.faults.processes import every_slot_works, second
from tests.live import Live

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]


def test_whatever_dies_hangs_or_is_lost_every_task_ends_once_and_as_was_asked(
    live: Live, service: Services, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("A2A_TEST_SEED") or random.SystemRandom().randrange(1_000_000))
    with capsys.disabled():
        print(f"\nchaos with the seed {seed}")  # noqa: T201
    load = Load(live)
    with second(live, "dispatcher") as dispatcher, second(live, "beat") as beat:
        chaos = Chaos(load, service, broker, [dispatcher, beat], seed=seed)
        try:
            with load.flowing(mixed(random.Random(seed))):
                chaos.run()
            chaos.put_back()
            load.ends_well(timeout_s=150)
        finally:
            losses = load.losses()
            with capsys.disabled():
                print("\n".join(chaos.journal))  # noqa: T201
                print(f"{len(load.items)} tasks; attempts lost: {dict(Counter(losses))}")  # noqa: T201
    assert "lease_expired" in losses
    every_slot_works(live)
