"""One supervisord and its processes: launched, asked, stopped, and cleaned up after when it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.config import APP, Program, supervisord_config
from stack.control import Control, ProcessInfo
from stack.envfile import write_private
from stack.errors import StackError
from stack.health import wait_until
from stack.logs import set_aside, tail
from stack.paths import make_dir
from stack.processes import Record, end, is_running, ours, read_record
from stack.scripts import MARKER

_UNREACHABLE = (OSError, xmlrpc.client.Error)
# Groups one after the other, each up to ten seconds until KILL, and supervisord's own ticks.
_SHUTDOWN_S = 26.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """One process that a shutdown ended, for the message to the user."""

    name: str
    pid: int


class Supervisor:
    """The supervisord of one run folder. Any process can make one of these and ask or stop what another launched."""

    def __init__(self, run_dir: Path, *, log_dir: Path, socket: Path) -> None:
        self.run_dir, self.log_dir, self.socket = run_dir, log_dir, socket
        self.control = Control(socket)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def marker(self) -> str:
        """The value of the marker variable in the environment of everything launched here."""
        return str(self.run_dir)

    def launch(self, programs: Sequence[Program], *, env: Mapping[str, str]) -> None:
        """Start supervisord with these programs; those with autostart start too. Waits until it answers."""
        for folder in (self.run_dir, self.log_dir):
            make_dir(folder, mode=0o700)
        self.socket.unlink(missing_ok=True)
        user = "root" if os.geteuid() == 0 else None  # said aloud, or supervisord warns
        text = supervisord_config(programs, socket=self.socket, log_dir=self.log_dir, user=user)
        write_private(self.run_dir / "supervisord.conf", text)
        self._remember(programs)
        for program in programs:
            set_aside(self.log_file(program.name))
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.run_dir / "supervisord.conf")]
        with (self.log_dir / "supervisord.out").open("wb") as out:
            self._child = subprocess.Popen(
                command,
                cwd="/",
                env={**env, MARKER: self.marker},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._record_daemon(self._child.pid)
        if not wait_until(lambda: self.is_answering() or not self.is_alive(), timeout_s=15) or not self.is_alive():
            reason = tail(self.log_dir / "supervisord.out")
            self.shutdown()
            raise StackError(f"supervisord did not start:\n{reason}")

    def is_alive(self) -> bool:
        """Whether the supervisord that was launched here still runs."""
        if self._child is not None:
            self._child.poll()  # reaps it when it was our own child
        record = read_record(self.run_dir / "supervisord.stat")
        return record is not None and record.is_alive()

    def is_answering(self) -> bool:
        """Whether supervisord answers on its socket."""
        try:
            self.control.processes()
        except _UNREACHABLE:
            return False
        return True

    def processes(self) -> list[ProcessInfo]:
        """Every process with its state; empty when supervisord is not there."""
        try:
            return self.control.processes()
        except _UNREACHABLE:
            return []

    def process(self, name: str) -> ProcessInfo:
        """One process; an unknown name or a supervisord that does not answer is an error."""
        for info in self.processes():
            if info.name == name:
                return info
        raise StackError(f"No process `{name}` is known here (is it started?).")

    def start_process(self, name: str, *, timeout_s: float = 15.0) -> int:
        """Start one process and return its pid."""
        info = self.process(name)
        self.control.start(info.group, name)
        if not wait_until(lambda: self.process(name).is_up, timeout_s=timeout_s):
            raise StackError(f"{name} did not start:\n{tail(self.log_file(name))}")
        return self.process(name).pid

    def start_all(self, *, group: str) -> None:
        """Start every process of a group at once, without waiting."""
        for info in self.processes():
            if info.group == group:
                self.control.start(group, info.name)

    def stop_process(self, name: str, *, timeout_s: float = 20.0) -> None:
        """Stop one process by its stop signal (KILL after ten seconds); it stays down until it is started."""
        info = self.process(name)
        self.control.stop(info.group, name)
        if not wait_until(lambda: self.process(name).has_ended, timeout_s=timeout_s):
            raise StackError(f"{name} (pid {info.pid}) did not stop within {timeout_s:.0f} s.")

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process and return its pid; after KILL, returns once supervisord knows of the death."""
        pid = self.process(name).pid
        if not pid:
            raise StackError(f"{name} does not run.")
        os.kill(pid, number)
        if number == signal.SIGKILL:
            wait_until(lambda: self.process(name).pid != pid, timeout_s=10)
        return pid

    def log_file(self, name: str) -> Path:
        """Where the output of a process is."""
        return self.log_dir / f"{name}.log"

    def orphans(self) -> list[Stopped]:
        """What a supervisord that was killed left running; empty while it lives."""
        if self.is_alive():
            return []
        return [Stopped(name=str(process.name()), pid=process.pid) for process in self._ours()]

    def shutdown(self) -> list[Stopped]:
        """Stop everything, supervisord last, and say what was stopped. Bounded; nothing of ours is left."""
        before = [Stopped(name=info.name, pid=info.pid) for info in self.processes() if info.pid]
        daemon = read_record(self.run_dir / "supervisord.stat")
        if daemon is not None and self.is_alive():
            self._ask_to_end(daemon)
            before.append(Stopped(name="supervisord", pid=daemon.pid))
        known = {stopped.pid for stopped in before}
        before += [Stopped(name=name, pid=pid) for name, pid in self._end_leftovers() if pid not in known]
        self.socket.unlink(missing_ok=True)
        (self.run_dir / "supervisord.stat").unlink(missing_ok=True)
        return before

    def _ask_to_end(self, daemon: Record) -> None:
        try:
            self.control.shutdown()
        except _UNREACHABLE:
            os.kill(daemon.pid, signal.SIGTERM)
        if not wait_until(lambda: not self.is_alive(), timeout_s=_SHUTDOWN_S):
            os.kill(daemon.pid, signal.SIGKILL)
            wait_until(lambda: not self.is_alive(), timeout_s=5)

    def _end_leftovers(self) -> list[tuple[str, int]]:
        """Users of the data first, then the data's own servers by their own signals, then whatever is left."""
        data = {name: entry for name, entry in self._remembered().items() if entry["group"] != APP}
        servers = {r.pid: n for n, e in data.items() if (r := read_record(Path(e["pid_file"]))) and r.is_alive()}
        found = self._ours()
        names = {process.pid: servers.get(process.pid) or str(process.name()) for process in found}
        trees = {child.pid for p in found if p.pid in servers for child in p.children(recursive=True)}
        end(process for process in found if process.pid not in servers and process.pid not in trees)
        for process in found:
            if process.pid in servers:
                end([process], with_signal=signal.Signals[f"SIG{data[servers[process.pid]]['signal']}"])
        end(self._ours(), wait_s=3)
        return [(names[pid], pid) for pid in names if not is_running(pid)]

    def _ours(self) -> list:  # type: ignore[type-arg]
        entries = self._remembered().values()
        records = [record for entry in entries if (record := read_record(Path(entry["pid_file"])))]
        return ours(marker=self.marker, records=records)

    def _remember(self, programs: Sequence[Program]) -> None:
        entries = {
            program.name: {"pid_file": str(program.pid_file), "group": program.group, "signal": program.stop_signal}
            for program in programs
        }
        write_private(self.run_dir / "programs.json", json.dumps(entries, indent=1))

    def _remembered(self) -> dict[str, dict[str, str]]:
        try:
            return dict(json.loads((self.run_dir / "programs.json").read_text()))
        except (OSError, ValueError):
            return {}

    def _record_daemon(self, pid: int) -> None:
        stat = Path(f"/proc/{pid}/stat")
        write_private(self.run_dir / "supervisord.stat", stat.read_text() if stat.exists() else f"{pid}\n")
