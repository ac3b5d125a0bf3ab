"""What every long-lived process does with what it has loaded."""

from __future__ import annotations

import subprocess
import sys

SETTLED = """
import gc
from tasks_app import garbage
kept = [[] for _ in range(1_000)]
garbage.settle(seldom=True)
looked_at = any(each is kept for each in gc.get_objects())
print(gc.get_freeze_count() > 1_000, gc.get_threshold()[0], gc.isenabled(), looked_at)
cycle = []
cycle.append(cycle)
del cycle
print(gc.collect() > 0)
"""


def test_what_is_loaded_is_looked_through_no_more_and_later_cycles_are_freed() -> None:
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "10000", "True", "False", "True"]
