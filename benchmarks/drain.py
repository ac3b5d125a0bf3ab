"""Tasks a second from end to end, against Celery with django-celery-results: two processes each, the same broker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack

import psycopg

from benchmarks.processes import process, wait_for
from stack.databases import fresh_database

TASKS = 1500
ROUNDS = 3
QUEUES = ",".join(f"a2a.cpu.{priority}" for priority in ("critical", "high", "normal", "low"))

OURS = """
import django; django.setup()
from uuid import uuid4
from a2a.types import Message, Part, Role
from tasks_app import engine
from tasks_app.engine import NewTask
from tasks_app.models import Client
from tasks_app.status import Lane
from tasks_app.wakeups import DISPATCH, bell
client = Client.objects.get_or_create(name="benchmark")[0]
def task():
    message = Message(message_id=str(uuid4()), role=Role.ROLE_USER, parts=[Part(text="hello")])
    return NewTask(client_id=client.pk, agent="noop", lane=Lane.CPU, context_id="c", message_id=message.message_id,
                   message=message.SerializeToString(), method="SendMessage", timeout_s=60.0, max_attempts=3)
for start in range(0, {tasks}, 500):
    engine.run(engine.create, [task() for _ in range(min(500, {tasks} - start))])
    bell.ring([(DISPATCH, "")])
"""
PEER = """
from benchmarks.peers.celery_results import noop
for number in range({tasks}):
    noop.delay(number)
"""


def main(services: dict[str, str]) -> None:
    """Prints each round's rates and the median ratio."""
    ours = {
        **services,
        "DATABASE_URL": fresh_database(services["DATABASE_URL"], "a2a_bench_drain"),
        "A2A_OPEN_MODE": "1",
        "A2A_AGENTS": "benchmarks.agents",
        "DJANGO_SETTINGS_MODULE": "a2a_project.settings",
        "PYTHONPATH": ".",
    }
    peer = {
        **services,
        "DATABASE_URL": fresh_database(services["DATABASE_URL"], "a2a_bench_celery"),
        "DJANGO_SETTINGS_MODULE": "benchmarks.peers.celery_results",
        "PYTHONPATH": ".",
    }
    _run([sys.executable, "manage.py", "migrate", "--no-input"], ours)
    _run([sys.executable, "-m", "django", "migrate", "--no-input"], peer)
    ratios = []
    for number in range(1, ROUNDS + 1):
        a, b = _ours(ours), _peer(peer)
        ratios.append(a / b)
        print(f"  round {number}: ours {a:.0f}/s; Celery + django-celery-results {b:.0f}/s; ratio {a / b:.2f}")
    print(f"end to end, median ratio to Celery + django-celery-results: {sorted(ratios)[ROUNDS // 2]:.2f}")


def _ours(env: dict[str, str]) -> float:
    done = "SELECT count(*) FROM tasks_app_task WHERE status = 'completed'"
    worker = ["celery", "--skip-checks", "-A", "a2a_project", "worker", "-P", "prefork", "-c", "2", "-Q", QUEUES]
    with ExitStack() as stack:
        stack.enter_context(process(*worker, "-n", f"bench-{os.getpid()}-{time.time()}@%h", "-l", "WARNING", env=env))
        stack.enter_context(process("python", "manage.py", "dispatcher", env=env))
        alive = "SELECT count(*) FROM tasks_app_worker WHERE heartbeat_at > now() - interval '2 seconds'"
        wait_for(lambda: _count(env, alive))
        return _rate(env, done, OURS)


def _peer(env: dict[str, str]) -> float:
    done = "SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"
    with process("celery", "-A", "benchmarks.peers.celery_results", "worker", "-c", "2", "-l", "WARNING", env=env):
        before = _count(env, done)
        _run([sys.executable, "-c", PEER.format(tasks=1)], env)
        wait_for(lambda: _count(env, done) > before)
        return _rate(env, done, PEER)


def _rate(env: dict[str, str], done: str, script: str) -> float:
    """From the first one done to the last, as they come: the submitter runs beside the workers."""
    before = _count(env, done)
    submitter = subprocess.Popen([sys.executable, "-c", script.format(tasks=TASKS)], env={**os.environ, **env})
    wait_for(lambda: _count(env, done) > before)
    first, began = _count(env, done), time.perf_counter()
    wait_for(lambda: _count(env, done) >= before + TASKS, timeout_s=120)
    elapsed = time.perf_counter() - began
    submitter.wait(10)
    return (before + TASKS - first) / elapsed


def _count(env: dict[str, str], query: str) -> int:
    with psycopg.connect(env["DATABASE_URL"], autocommit=True) as conn:
        row = conn.execute(query).fetchone()
        return int(row[0]) if row else 0


def _run(command: list[str], env: dict[str, str]) -> None:
    subprocess.run(command, env={**os.environ, **env}, check=True, stdout=subprocess.DEVNULL)
