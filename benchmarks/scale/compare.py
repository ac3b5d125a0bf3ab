"""A small and a large database side by side: each verb's median cost in either, and the plans it runs by."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import ours
from benchmarks.figures import median, verdict
from benchmarks.scale.seed import seed

TARGET = 1.25
#: How many times the large one is the small one; of the finished and of the pending tasks.
FACTOR = 100
PLANS = Path(".a2a") / "benchmarks"
#: Calls on one database before it is the other's turn; short, since the machine's speed drifts.
BLOCK = 10


def main(services: dict[str, str], *, finished: int = 1_000_000, pending: int = 100_000, calls: int = 300) -> None:
    """Prints each verb's medians; writes the plans below ``.a2a/benchmarks``."""
    sizes = {"small": (finished // FACTOR, pending // FACTOR), "large": (finished, pending)}
    envs = {name: ours.environment(services, f"scale_{name}") for name in sizes}
    try:
        for name, (done, waiting) in sizes.items():
            began = time.monotonic()
            seed(envs[name]["DATABASE_URL"], finished=done, pending=waiting)
            took_s, size = time.monotonic() - began, ours.one(envs[name], SIZE)
            print(f"  {name}: {done:,} finished, {waiting:,} pending, {size} ({took_s:.0f} s to fill)", flush=True)
        _compare(envs, calls)
    finally:
        for name in sizes:
            _drop(services, f"a2a_bench_scale_{name}")


SIZE = "SELECT pg_size_pretty(pg_database_size(current_database()))"


def _compare(envs: dict[str, dict[str, str]], calls: int) -> None:
    PLANS.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        callers = {name: stack.enter_context(_caller(env)) for name, env in envs.items()}
        groups = callers["small"]({"list": True})
        times: dict[str, dict[str, list[float]]] = {name: {} for name in envs}
        for block in range(1 + calls // BLOCK):  # the first is the warm-up
            # By turns: who comes second finds the processor's caches fuller of the other.
            turns = list(callers.items())[:: 1 if block % 2 else -1]
            for verbs, (name, ask) in itertools.product(groups, turns):
                for verb, values in ask({"verbs": verbs, "times": BLOCK}).items():
                    times[name].setdefault(verb, []).extend(values if block else [])
        buffers = {name: ask({"plans": str(PLANS / f"scale-{name}.txt")}) for name, ask in callers.items()}
    ratios = {}
    for verb in times["small"]:
        small, large = median(times["small"][verb]), median(times["large"][verb])
        ratios[verb] = large / small
        pages = f"{buffers['small'][verb]} and {buffers['large'][verb]} buffers"
        print(f"  {verb:<14} {small:7.2f} ms small, {large:7.2f} ms large, ratio {ratios[verb]:5.2f}; {pages}")
    print(f"  plans: {PLANS}/scale-small.txt and scale-large.txt")
    worst = max(ratios, key=lambda verb: ratios[verb])
    print(
        f"cost of a verb at {FACTOR} times the rows, the worst: {worst} {ratios[worst]:.2f}"
        f" (target <= {TARGET}: {verdict(ratios[worst], TARGET)})"
    )


@contextmanager
def _caller(env: dict[str, str]) -> Iterator[Any]:
    """A process that calls verbs on one database: a function that asks it and waits for its answer."""
    command = [sys.executable, "-m", "benchmarks.scale.calls"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env={**os.environ, **env}, stdin=pipe, stdout=pipe, text=True) as caller:
        assert caller.stdin is not None
        assert caller.stdout is not None
        stdin, stdout = caller.stdin, caller.stdout

        def ask(what: dict[str, Any]) -> Any:
            stdin.write(json.dumps(what) + "\n")
            stdin.flush()
            line = stdout.readline()
            if not line:
                raise RuntimeError("the process that calls the verbs has ended; its error stands above")
            return json.loads(line)

        yield ask
        stdin.close()


def _drop(services: dict[str, str], name: str) -> None:
    with psycopg.connect(services["DATABASE_URL"], autocommit=True) as conn:
        conn.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
