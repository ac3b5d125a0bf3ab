"""What the idle stack holds in memory: all processes of the embedded default but Flower, as the sum of their PSS."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from stack import Stack

PROCESSES = ["web", "dispatcher", "worker-cpu", "worker-io", "worker-system", "beat"]
SETTLE_S = 10


def main(services: dict[str, str]) -> None:
    """Prints each process and the sum, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), processes=PROCESSES, embedded=True, port=0)
        stack.start()
        try:
            stack.wait_ready()
            time.sleep(SETTLE_S)
            _print(stack)
        finally:
            stack.stop()


def _print(stack: Stack) -> None:
    total = 0.0
    for info in stack.supervisor.processes():
        pss_mb = _pss_mb(info.pid)
        total += pss_mb
        print(f"  {info.name:<14} {pss_mb:6.0f} MB")
    supervisor = psutil.Process(stack.supervisor.processes()[0].pid).parent()
    if supervisor is not None:
        own = supervisor.memory_full_info().pss / 1e6
        total += own
        print(f"  {'supervisord':<14} {own:6.0f} MB")
    print(f"idle stack, sum of PSS without Flower: {total:.0f} MB")


def _pss_mb(pid: int) -> float:
    tree = psutil.Process(pid)
    return float(sum(p.memory_full_info().pss for p in [tree, *tree.children(recursive=True)]) / 1e6)
