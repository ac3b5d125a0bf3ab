"""A whole stack of real processes for the tests that need one, and what they ask of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from stack import Stack
from stack.ports import find_free
from stack.reset import reset
from stack.scripts import read_procfile

#: Short, so that a test sees a rescue within seconds.
TIMES = {
    "A2A_LEASE_S": "5",
    "A2A_HEARTBEAT_S": "1",
    "A2A_SWEEP_S": "1",
    "A2A_REPUBLISH_S": "1",
    "A2A_STOP_GRACE_S": "2",
}
#: Agents that behave badly, those of the fault tests' load, which append to the ledger that this variable names, and
#: those of the examples.
AGENTS = {"A2A_AGENTS": "tests.agents,tests.faults.agents,examples.server.agents"}
LEDGER = "A2A_TEST_LEDGER"
ENDED = {"completed", "failed", "cancelled", "rejected"}


def wait_for(condition: Callable[[], Any], *, timeout_s: float = 60, what: str = "") -> Any:
    """The first true value of the condition. Fails the test after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.05)


def ledger_of(state_dir: Path) -> Path:
    """Where the handlers of a stack keep their ledger: beside the system, not in it."""
    return state_dir / "ledger.jsonl"


class Live:
    """A running stack, as a client and as an operator sees it."""

    def __init__(self, stack: Stack, env: dict[str, str]) -> None:
        self.stack = stack
        self._env = {**os.environ, **env, **stack.env}
        self.database_url = self._env["DATABASE_URL"]
        self.ledger = ledger_of(stack.state_dir)
        self.scratch = Path(self._env["TMPDIR"])
        #: Where agents that are declared as remote are looked for; nobody is there unless a test starts somebody.
        self.remote_port = int(self._env["A2A_TEST_REMOTE"].rstrip("/").rpartition(":")[2])
        self.http = httpx.Client(base_url=stack.url, timeout=30)

    @classmethod
    def started(cls, state_dir: Path, env: dict[str, str], **options: Any) -> Live:
        state_dir.mkdir(parents=True, exist_ok=True)
        scratch = state_dir / "tmp"
        scratch.mkdir(exist_ok=True)
        env = {
            **TIMES,
            **AGENTS,
            LEDGER: str(ledger_of(state_dir)),
            "A2A_TEST_REMOTE": f"http://127.0.0.1:{find_free()}/",
            "A2A_OPEN_MODE": "1",
            "A2A_PUSH_ALLOWED": "127.0.0.1",
            "TMPDIR": str(scratch),
            **env,
        }
        stack = Stack(state_dir, env=env, port=0, **options)
        stack.start()
        try:
            stack.wait_ready(timeout_s=90)
            live = cls(stack, env)
            wait_for(lambda: live.online_workers() >= {"cpu", "io"}, what="both lanes have a worker")
        except BaseException:
            stack.stop()
            reset(stack.state_dir, everything=True)
            raise
        return live

    # As a client -----------------------------------------------------------------------------------------------------

    def submit(self, agent: str, text: str = "hello", **fields: Any) -> str:
        """The id of a new task."""
        body = {"agent": agent, "message": {"messageId": str(uuid4()), "parts": [{"text": text}]}, **fields}
        reply = self.http.post("/api/v1/tasks/", json=body)
        assert reply.status_code == 201, reply.text
        return str(reply.json()["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        reply = self.http.get(f"/api/v1/tasks/{task_id}/")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def ended(self, task_id: str, *, timeout_s: float = 60) -> dict[str, Any]:
        """The task, once it has ended."""

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in ENDED else None

        return dict(wait_for(look, timeout_s=timeout_s, what=f"task {task_id} ends"))

    def running(self, task_id: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            assert task["status"] not in ENDED, f"ended before it was seen running: {task}"
            return task if task["status"] == "running" else None

        return dict(wait_for(look, what=f"task {task_id} runs"))

    # As an operator --------------------------------------------------------------------------------------------------

    def sql(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows. Waits for a database that a test has killed and that is starting again."""

        def ask() -> list[list[tuple[Any, ...]]] | None:
            try:
                with psycopg.connect(self.database_url, autocommit=True) as conn:
                    return [conn.execute(query, params).fetchall()]
            except psycopg.OperationalError:
                return None

        rows: list[tuple[Any, ...]] = wait_for(ask, timeout_s=20, what="the database answers")[0]
        return rows

    def online_workers(self) -> set[str]:
        rows = self.sql(
            "SELECT lane FROM tasks_app_worker WHERE state = 'online' AND heartbeat_at > now() - interval '3 seconds'"
        )
        return {row[0] for row in rows}

    def manage(self, *args: str) -> str:
        """What a command of ``manage.py`` prints."""
        command = [sys.executable, "manage.py", *args]
        done = subprocess.run(command, cwd=self.stack.root, env=self._env, capture_output=True, text=True, check=True)
        return done.stdout

    @contextmanager
    def process(self, command: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """One more process of this stack, by a command as in the Procfile; killed at the end if it still runs."""
        path = os.pathsep.join([str(Path(sys.executable).parent), self._env["PATH"]])
        name = f"{command.split()[0]}-{time.monotonic_ns()}"
        with self.stack.supervisor.log_file(name).open("wb") as log:
            started = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=self.stack.root,
                env={**self._env, "PATH": path, **env},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield started
        finally:
            started.kill()
            started.wait()

    @contextmanager
    def worker(self, lane: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """One more worker of a lane, under a name of its own; online when this returns."""
        with self.process(read_procfile(self.stack.procfile)[f"worker-{lane}"], **env) as started:
            self.is_online(started.pid, lane)
            yield started

    def is_online(self, pid: int, lane: str) -> None:
        """Waits for the worker of this process to be ready."""
        query = "SELECT 1 FROM tasks_app_worker WHERE pid = %s AND lane = %s AND state = 'online'"
        wait_for(lambda: self.sql(query, pid, lane), what=f"a worker of the {lane} lane is online")

    def statuses(self, task_ids: Iterable[str]) -> Counter[str]:
        rows = self.sql("SELECT status FROM tasks_app_task WHERE id = ANY(%s::uuid[])", list(task_ids))
        return Counter(row[0] for row in rows)

    def close(self) -> None:
        """Stops everything and deletes its data, also what stands outside a folder that only root may enter."""
        self.http.close()
        self.stack.stop()
        reset(self.stack.state_dir, everything=True)
