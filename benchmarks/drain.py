"""Tasks a second from end to end, two processes each, the same broker: ours, everything durable, against Celery with
django-celery-results, and against bare Celery, which stores nothing."""

from __future__ import annotations

import struct
import sys
import tempfile
from pathlib import Path

from benchmarks import ours
from benchmarks.figures import median, rate, verdict
from benchmarks.processes import finished, process, wait_for
from stack.databases import fresh_database

TARGET = 0.45
#: The first of a round are its warm-up: they are run, and not measured.
WARM_UP = 200
SUBMIT = """
from benchmarks.peers.{module} import noop
for number in range({jobs}):
    noop.delay(number)
"""


def main(services: dict[str, str], *, tasks: int = 1500, rounds: int = 3) -> None:
    """Prints each round's rates and the median ratios. Whoever drains finds all its tasks waiting when it starts."""
    env = ours.environment(services, "drain")
    results = _results_env(services)
    against_results, against_bare = [], []
    before = _bare(services, 3 * tasks)
    for number in range(1, rounds + 1):
        ours_rate = _ours(env, tasks)
        after = _bare(services, 3 * tasks)
        # The ceiling just before and just after: the machine's speed drifts within seconds.
        bare_rate, before = (before + after) / 2, after
        results_rate = _results(results, tasks // 3)
        against_results.append(ours_rate / results_rate)
        against_bare.append(ours_rate / bare_rate)
        print(
            f"  round {number}: ours {ours_rate:.0f}/s; Celery + django-celery-results {results_rate:.0f}/s"
            f" (ratio {against_results[-1]:.2f}); bare Celery {bare_rate:.0f}/s (ratio {against_bare[-1]:.2f})"
        )
    bare = median(against_bare)
    print(
        f"drain, median ratio to bare Celery that stores nothing: {bare:.2f}"
        f" (target >= {TARGET}: {verdict(bare, TARGET, at_least=True)});"
        f" to Celery + django-celery-results: {median(against_results):.2f}"
    )


def _ours(env: dict[str, str], tasks: int) -> float:
    before = ours.one(env, "SELECT count(*) FROM tasks_app_task")
    ours.seed(env, "noop", tasks + WARM_UP)
    with ours.dispatcher(env), ours.worker(env, "cpu", 2):
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


def _bare(services: dict[str, str], jobs: int) -> float:
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 (a folder in memory)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        ledger = Path(folder) / "ledger"
        env = {**services, "BENCH_LEDGER": str(ledger), "PYTHONPATH": "."}
        finished(sys.executable, "-c", SUBMIT.format(module="celery_bare", jobs=jobs + WARM_UP), env=env)
        with process("celery", "-A", "benchmarks.peers.celery_bare", "worker", "-c", "2", "-l", "WARNING", env=env):
            wait_for(lambda: ledger.stat().st_size >= 8 * (jobs + WARM_UP), timeout_s=180, pause_s=0.5)
        return rate([at for (at,) in struct.iter_unpack("=d", ledger.read_bytes())], skip=WARM_UP)
