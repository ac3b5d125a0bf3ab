"""Our side of a benchmark: its environment and processes, tasks put in through the engine, and what the database says.

Public surfaces only, so that a benchmark measures what a deployment runs.
"""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import AbstractContextManager
from subprocess import Popen
from typing import Any

import psycopg
from kombu import Connection

from benchmarks.processes import finished, process, wait_for
from stack.databases import fresh_database

PRIORITIES = ("critical", "high", "normal", "low")
LANES = ("cpu", "io")
_numbers = itertools.count(1)


def environment(services: dict[str, str], name: str, **extra: str) -> dict[str, str]:
    """The variables of a deployment with a database of its own, migrated, and nothing left in the broker's queues."""
    env = {
        **services,
        "DATABASE_URL": fresh_database(services["DATABASE_URL"], f"a2a_bench_{name}"),
        "A2A_OPEN_MODE": "1",
        "A2A_AGENTS": "benchmarks.agents",
        "DJANGO_SETTINGS_MODULE": "a2a_project.settings",
        "PYTHONPATH": ".",
        **extra,
    }
    finished(sys.executable, "manage.py", "migrate", "--no-input", env=env)
    purge(env)
    return env


def purge(env: dict[str, str]) -> None:
    """Drops what another run left in the lanes' queues: hints for tasks of a database that is gone."""
    with Connection(env["A2A_BROKER_URL"]) as connection:
        for lane, priority in itertools.product(LANES, PRIORITIES):
            channel: Any = connection.channel()
            try:
                channel.queue_purge(f"a2a.{lane}.{priority}")
            except connection.channel_errors:
                continue  # there is no such queue yet
            channel.close()


def worker(env: dict[str, str], lane: str, slots: int) -> AbstractContextManager[Popen[bytes]]:
    """A Celery worker of the lane, as the Procfile starts it, but without task events: the peers send none either."""
    queues = ",".join(f"a2a.{lane}.{priority}" for priority in PRIORITIES)
    node = f"bench-{lane}-{next(_numbers)}-$$@%h"
    command = f"exec celery --skip-checks -A a2a_project worker -c {slots} -Q {queues} -n {node}"
    return process("sh", "-c", f"{command} --without-mingle --without-gossip -l WARNING", env=env)


def dispatcher(env: dict[str, str]) -> AbstractContextManager[Popen[bytes]]:
    return process("python", "manage.py", "dispatcher", env=env)


def web(env: dict[str, str], port: int) -> AbstractContextManager[Popen[bytes]]:
    app = "a2a_project.asgi:application"
    command = ["uvicorn", app, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    return process(*command, env={**env, "A2A_DB_POOL": "1"})


def seed(env: dict[str, str], agent: str, tasks: int, *, priority: str = "normal", **parameters: Any) -> None:
    """Accepts so many tasks, in as few statements as it takes, and rings for them; returns when they are committed."""
    command = [sys.executable, "-m", "benchmarks.seed", agent, str(tasks), priority, json.dumps(parameters)]
    finished(*command, env=env)


def rows(env: dict[str, str], query: str, *params: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(env["DATABASE_URL"], autocommit=True) as conn:
        return conn.execute(query, params).fetchall()


def one(env: dict[str, str], query: str, *params: Any) -> Any:
    """The first column of the first row."""
    return rows(env, query, *params)[0][0]


def wait_online(env: dict[str, str], *lanes: str) -> None:
    """Returns when a worker of each lane has announced itself."""
    query = (
        "SELECT DISTINCT lane FROM tasks_app_worker"
        " WHERE state = 'online' AND heartbeat_at > now() - interval '10 seconds'"
    )
    wait_for(lambda: {row[0] for row in rows(env, query)} >= set(lanes))


def wait_completed(env: dict[str, str], tasks: int, *, timeout_s: float) -> None:
    """Returns when so many tasks of the database are completed. Looks seldom, so that looking costs little."""
    query = "SELECT count(*) FROM tasks_app_task WHERE status = 'completed' AND completed_at IS NOT NULL"
    wait_for(lambda: one(env, query) >= tasks, timeout_s=timeout_s, pause_s=0.5)
