"""What the fault tests do to processes: kill, stop and continue them, start a second one beside the first."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psutil  # type: ignore[import-untyped]

from stack.scripts import read_procfile
from tests.live import Live, wait_for


@contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """While the body runs the processes do nothing at all, and their connections stay open."""
    held = list(pids)
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    """Those of a worker's pool."""
    return [int(child.pid) for child in psutil.Process(pid).children(recursive=True)]


def family(pid: int) -> list[int]:
    """A process and its children; the parent first, so that it sees none of them stop."""
    return [pid, *children(pid)]


def is_gone(pid: int) -> bool:
    """Whether it runs no more, reaped or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def kill_busy(live: Live, name: str) -> None:
    """Kills a lane's worker while it runs something, which cannot end between the look and the kill."""
    pid = live.stack.pid(name)

    def killed() -> bool:
        with stopped(family(pid)):
            # What it had sent to the database before it was stopped is waited for.
            busy = bool(live.sql(f"{BUSY} FOR UPDATE OF task", pid))
            if busy:
                live.stack.kill(name)
        return busy

    wait_for(killed, what=f"{name} runs something")


class Second:
    """A second process beside one of the stack's: the same line of the Procfile, in the same environment."""

    def __init__(self, live: Live, name: str) -> None:
        self.name = f"{name}-2"
        self._live = live
        self._command = read_procfile(live.stack.procfile)[name]
        self._environ = psutil.Process(live.stack.pid(name)).environ()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """0 when it is down."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    @property
    def log(self) -> str:
        return (self._live.stack.log_dir / f"{self.name}.log").read_text(errors="replace")

    def start(self) -> None:
        script = f"cd {shlex.quote(str(self._live.stack.root))} && exec {self._command}"
        with (self._live.stack.log_dir / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", script], env=self._environ, stdout=log, stderr=subprocess.STDOUT
            )

    def end(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(timeout=20)


@contextmanager
def second(live: Live, name: str) -> Iterator[Second]:
    """A second one of a process, for as long as the body runs."""
    made = Second(live, name)
    made.start()
    try:
        yield made
    finally:
        made.end()


def put_back(live: Live) -> None:
    """Starts what a test left dead, once its supervisor has seen that it is."""
    wait_for(
        lambda: not any(process.is_up and is_gone(process.pid) for process in live.stack.app_processes()),
        what="the supervisor has seen who is dead",
    )
    for process in live.stack.app_processes():
        if process.state not in ("RUNNING", "STARTING"):
            live.stack.start_process(process.name)
    wait_for(lambda: live.online_workers() >= {"cpu", "io"}, what="both lanes have a worker again")


def every_slot_works(live: Live) -> None:
    """As many tasks as there are slots run at once, in both lanes: none is held by what has ended."""
    pids = [live.stack.pid("worker-cpu"), live.stack.pid("worker-io")]
    slots = dict(wait_for(lambda: len(rows := live.sql(SLOTS, pids)) == 2 and rows, what="both workers are online"))
    agents = {"cpu": "ledger-cpu", "io": "ledger-io"}
    ids = [
        live.submit(agents[lane], parameters={"seconds": 100, "steps": 200}, priority="critical")
        for lane, count in slots.items()
        for _ in range(count)
    ]
    wait_for(lambda: live.statuses(ids)["running"] == len(ids), timeout_s=30, what=f"all slots work at once: {slots}")
    for task_id in ids:
        assert live.http.post(f"/api/v1/tasks/{task_id}/cancel/").status_code == 200
    wait_for(lambda: not live.sql(HELD), timeout_s=30, what="nothing is running, admitted or unreleased")


#: What a worker runs: the processes, the youngest attempt's first.
BUSY = """
SELECT attempt.pid FROM tasks_app_taskattempt attempt JOIN tasks_app_task task ON task.lease_id = attempt.id
JOIN tasks_app_worker worker ON worker.name = attempt.worker WHERE worker.pid = %s ORDER BY attempt.claimed_at DESC
"""
SLOTS = """
SELECT lane, slots FROM tasks_app_worker
WHERE pid = ANY(%s) AND state = 'online' AND heartbeat_at > now() - interval '3 seconds'
"""
HELD = """
SELECT id FROM tasks_app_task WHERE status = 'running' OR lease_id IS NOT NULL OR admitted_at IS NOT NULL
UNION ALL SELECT task_id FROM tasks_app_taskattempt WHERE released_at IS NULL
"""
