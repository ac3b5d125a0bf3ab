"""Tasks a second, end to end and of a backlog, two workers or processes each, on the same broker: ours, everything
durable, against Celery with django-celery-results, and against bare Celery, which stores nothing."""

from __future__ import annotations

import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import ours
from benchmarks.figures import median, rate, verdict
from benchmarks.processes import finished, process, wait_for
from stack.databases import fresh_database

TARGET = 0.45
#: The first of a round are its warm-up: they are run, and not measured.
WARM_UP = 200
#: Slots of each of the two io workers.
IO_SLOTS = 32
SUBMIT = """
from benchmarks.peers.{module} import noop
for number in range({jobs}):
    noop.delay(number)
"""
#: Ratios that are told, as (name, ours, the peer).
RATIOS = (
    ("end to end, io lane, to bare Celery", "io", "bare"),
    ("of a backlog, io lane, to bare Celery", "io backlog", "bare backlog"),
    ("of a backlog, cpu lane, to bare Celery", "cpu backlog", "bare backlog"),
    ("of a backlog, cpu lane, to Celery + django-celery-results", "cpu backlog", "results backlog"),
)


def main(services: dict[str, str], *, tasks: int = 2000, rounds: int = 3) -> None:
    """Prints each round's rates and the median ratios.

    End to end, a program submits while the workers run, as facts about Celery are usually told. Of a backlog, all
    tasks wait when the workers start: no submitter takes its share of the machine.
    """
    env = ours.environment(services, "drain")
    results = _results_env(services)
    sides: dict[str, Callable[[], float]] = {
        "io": lambda: _ours(env, "io", 2 * tasks),
        "bare": lambda: _bare(services, 3 * tasks),
        "io backlog": lambda: _ours(env, "io", 2 * tasks, backlog=True),
        "bare backlog": lambda: _bare(services, 3 * tasks, backlog=True),
        "cpu backlog": lambda: _ours(env, "cpu", tasks, backlog=True),
        "results backlog": lambda: _results(results, tasks // 3),
    }
    rounds_ratios: dict[str, list[float]] = {name: [] for name, *_ in RATIOS}
    for number in range(1, rounds + 1):
        rates = {name: measure() for name, measure in sides.items()}
        print(f"  round {number}: " + ", ".join(f"{name} {per_s:.0f}/s" for name, per_s in rates.items()), flush=True)
        for name, side, peer in RATIOS:
            rounds_ratios[name].append(rates[side] / rates[peer])
    for (name, *_), target in zip(RATIOS, (TARGET, *[None] * 3), strict=True):
        ratio = median(rounds_ratios[name])
        against = f" (target >= {target}: {verdict(ratio, target, at_least=True)})" if target else ""
        print(f"drain {name}, median ratio: {ratio:.2f}{against}")


def _ours(env: dict[str, str], lane: str, tasks: int, *, backlog: bool = False) -> float:
    before = ours.one(env, "SELECT count(*) FROM tasks_app_task")
    agent = {"io": "noop-io", "cpu": "noop"}[lane]
    with ExitStack() as running:
        if backlog:
            ours.seed(env, agent, tasks + WARM_UP)
        running.enter_context(ours.dispatcher(env))
        if lane == "io":
            running.enter_context(ours.worker(env, "io", IO_SLOTS))
            running.enter_context(ours.worker(env, "io", IO_SLOTS))
        else:
            running.enter_context(ours.worker(env, "cpu", 2))
        if not backlog:
            ours.wait_online(env, lane)
            ours.seed(env, agent, tasks + WARM_UP)
        ours.wait_completed(env, before + tasks + WARM_UP, timeout_s=180)
    ends = ours.rows(
        env,
        "SELECT extract(epoch FROM completed_at)::float8 FROM tasks_app_task ORDER BY completed_at DESC LIMIT %s",
        tasks + WARM_UP,
    )
    return rate([row[0] for row in ends], skip=WARM_UP)


def _results_env(services: dict[str, str]) -> dict[str, str]:
    env = {
        **services,
        "DATABASE_URL": fresh_database(services["DATABASE_URL"], "a2a_bench_celery"),
        "DJANGO_SETTINGS_MODULE": "benchmarks.peers.celery_results",
        "PYTHONPATH": ".",
    }
    finished(sys.executable, "-m", "django", "migrate", "--no-input", env=env)
    return env


def _results(env: dict[str, str], jobs: int) -> float:
    query = (
        "SELECT extract(epoch FROM date_done)::float8 FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"
    )
    before = len(ours.rows(env, query))
    finished(sys.executable, "-c", SUBMIT.format(module="celery_results", jobs=jobs + WARM_UP), env=env)
    with process("celery", "-A", "benchmarks.peers.celery_results", "worker", "-c", "2", "-l", "WARNING", env=env):
        wait_for(lambda: len(ours.rows(env, query)) >= before + jobs + WARM_UP, timeout_s=180, pause_s=0.5)
    return rate(sorted(row[0] for row in ours.rows(env, query))[before:], skip=WARM_UP)


def _bare(services: dict[str, str], jobs: int, *, backlog: bool = False) -> float:
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 (a folder in memory)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        ledger = Path(folder) / "ledger"
        env = {**services, "BENCH_LEDGER": str(ledger), "PYTHONPATH": "."}

        def submit(count: int) -> None:
            finished(sys.executable, "-c", SUBMIT.format(module="celery_bare", jobs=count), env=env)

        def ran(count: int) -> None:
            wait_for(lambda: ledger.stat().st_size >= 8 * count, timeout_s=180, pause_s=0.5)

        submit(jobs + WARM_UP if backlog else WARM_UP)
        with process("celery", "-A", "benchmarks.peers.celery_bare", "worker", "-c", "2", "-l", "WARNING", env=env):
            if not backlog:
                ran(WARM_UP)
                submit(jobs)
            ran(jobs + WARM_UP)
        return rate([at for (at,) in struct.iter_unpack("=d", ledger.read_bytes())], skip=WARM_UP)
