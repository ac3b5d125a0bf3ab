"""The whole application of one state folder: embedded servers, preparation, and the processes of the Procfile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from stack.config import APP, Program
from stack.control import ProcessInfo
from stack.data.base import DataServer, Place
from stack.data.postgresql import WheelPostgreSQL
from stack.data.redis import Redis
from stack.envfile import kept_secret, read_env, write_env
from stack.environment import KEPT, OPTIONAL, PORTS, application_env, embedded_roles, servers_for
from stack.errors import AlreadyRunning, PortInUse, StackError
from stack.health import http_answers, wait_until
from stack.interrupts import uninterrupted
from stack.logs import tail
from stack.paths import (
    ROOT,
    control_socket,
    data_root,
    default_state_dir,
    locked,
    make_dir,
    open_state,
    service_account,
)
from stack.ports import LOOPBACK, Ports, is_free, reachable
from stack.scripts import MARKER, app_script, read_procfile, select
from stack.supervision import Stopped, Supervisor
from stack.targets import targets, write_targets

PREPARE_COMMANDS: list[list[str]] = [
    ["manage.py", "migrate", "--no-input"],
    ["manage.py", "collectstatic", "--no-input"],
]
"""Run with this Python, one after the other, once the database answers and before any process starts."""
DEFAULT_PORT = 8000
EMBEDDED: dict[str, type[DataServer]] = {"postgresql": WheelPostgreSQL, "redis": Redis}
WEB = "web"


class Stack:
    """The processes of one state folder. Stacks of different folders run beside each other.

    `env` wins over this process' environment, which wins over `.env`. `processes` picks from the Procfile (all);
    `extra` adds commands under new names (a second worker). `embedded` says which servers are private to this stack
    (see `embedded_roles`). `port` 0 picks a free one, None takes `A2A_PORT` or 8000. Without `autorestart` a process
    that dies stays dead.
    """

    def __init__(
        self,
        state_dir: Path | None = None,
        *,
        env: Mapping[str, str] | None = None,
        procfile: Path | None = None,
        processes: Sequence[str] | None = None,
        extra: Mapping[str, str] | None = None,
        embedded: bool | Collection[str] | None = None,
        autorestart: bool = True,
        prepare: Sequence[Sequence[str]] | None = None,
        port: int | None = None,
        root: Path = ROOT,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.state_dir = open_state(state_dir or default_state_dir())
        self.root, self.procfile = root, procfile or root / "Procfile"
        self.run_dir, self.log_dir = self.state_dir / "run", self.state_dir / "logs"
        self.env_file = self.run_dir / "env"
        self.targets_file = self.run_dir / "targets.json"
        self.ports = Ports(self.state_dir / "ports.json")
        self._given = {**read_env(root / ".env"), **os.environ, **(env or {})}
        self._processes, self._extra = processes, dict(extra or {})
        self._embedded, self._autorestart, self._asked_port = embedded, autorestart, port
        self._prepare_commands = PREPARE_COMMANDS if prepare is None else prepare
        self._say = say
        socket = control_socket(self.run_dir, self.state_dir)
        self.supervisor = Supervisor(self.run_dir, log_dir=self.log_dir, socket=socket)

    @property
    def env(self) -> dict[str, str]:
        """The variables of the running stack: its URLs, port and secret; empty when none was started."""
        return read_env(self.env_file)

    @property
    def url(self) -> str:
        """The address of the running stack's web process."""
        return f"http://{self._host()}:{self.env.get('A2A_PORT', self._wanted_port())}"

    def targets(self) -> dict[str, str]:
        """Where Prometheus finds the metrics of the running stack: host:port by process."""
        return targets(self.env, [info.name for info in self.app_processes()])

    def is_running(self) -> bool:
        """Whether it was started: a supervisord whose processes nobody started yet does not count."""
        return self.supervisor.is_alive() and any(info.state != "STOPPED" for info in self.app_processes())

    def app_processes(self) -> list[ProcessInfo]:
        """The Procfile's processes (and the extra ones) with their states."""
        return [info for info in self.supervisor.processes() if info.group == APP]

    def start(self) -> None:
        """Start everything and return; `wait_ready` waits for it. When anything fails, what was started is stopped."""
        with locked(self.state_dir):
            if self.is_running():
                raise AlreadyRunning(f"A stack is running already at {self.url}.")
            self._end_leftovers()
            port = self._choose_port()
            try:
                self._start(port)
            except BaseException:
                self._shutdown()
                raise

    def wait_ready(self, timeout_s: float = 60.0) -> float:
        """Wait until GET /healthz answers 200 (without a web process: until all run); return the seconds it took."""
        started = time.monotonic()
        if not wait_until(lambda: self._is_ready() or self._has_failed(), timeout_s=timeout_s, every_s=0.1):
            raise StackError(f"Not ready after {timeout_s:.0f} s.\n{self._what_failed()}")
        if not self._is_ready():
            raise StackError(f"A process ended before it was ready.\n{self._what_failed()}")
        return time.monotonic() - started

    def laggards(self, timeout_s: float = 5.0) -> list[ProcessInfo]:
        """The processes that still do not run after a moment, for a warning."""
        wait_until(lambda: all(i.state == "RUNNING" for i in self.app_processes()), timeout_s=timeout_s, every_s=0.1)
        return [info for info in self.app_processes() if info.state != "RUNNING"]

    def stop(self) -> list[Stopped]:
        """Stop everything by pid, also what a killed supervisord left behind, and say what was stopped."""
        with uninterrupted(), locked(self.state_dir):
            return self._shutdown()

    def pid(self, name: str) -> int:
        """The pid of a process or embedded server; 0 when it is down."""
        return self.supervisor.process(name).pid

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal (KILL) to a process and return the pid it had."""
        return self.supervisor.kill(name, number)

    def start_process(self, name: str) -> int:
        """Start a process that is down and return its pid."""
        return self.supervisor.start_process(name)

    def stop_process(self, name: str) -> None:
        """Stop a process by its stop signal; KILL after ten seconds."""
        self.supervisor.stop_process(name)

    def log(self, name: str) -> str:
        """Everything in the current log file of a process."""
        return self.supervisor.log_file(name).read_text(errors="replace")

    def _start(self, port: int) -> None:
        roles = embedded_roles(self._given, self._embedded)
        place = self._place()
        servers = [EMBEDDED[name](place) for name in servers_for(roles, self._given)]
        for server in servers:
            server.prepare()
        urls = {name: url for server in servers for name, url in server.env().items()}
        ports = {name: int(self._given.get(name) or self._choose(name)) for name in PORTS}
        secret = kept_secret(self.state_dir / "secret")
        env = application_env(self._given, urls, roles=roles, port=port, ports=ports, secret=secret)
        programs = [program for server in servers for program in server.programs()] + self._app_programs()
        self.supervisor.launch(programs, env=env)
        write_env(self.env_file, {name: env[name] for name in KEPT if name in env})
        write_targets(self.targets_file, self.targets())
        self._wait_for(servers)
        self._prepare(env)
        self.supervisor.start_all(group=APP)

    def _place(self) -> Place:
        account = service_account()
        root = data_root(self.state_dir, account)
        return Place(
            root=root / "embedded",
            copies=root / "bin",
            account=account,
            ports=self.ports,
            marker=self.supervisor.marker,
            tcp=False,
            autorestart=self._autorestart,
        )

    def _app_programs(self) -> list[Program]:
        commands = {**select(read_procfile(self.procfile), self._processes), **self._extra}
        if self._processes is None:
            unwanted = {name for name, variable in OPTIONAL.items() if not self._given.get(variable)}
            commands = {name: command for name, command in commands.items() if name not in unwanted}
        if clash := commands.keys() & EMBEDDED.keys():
            raise StackError(f"A process cannot be called {', '.join(clash)}: the embedded servers are.")
        pids = make_dir(self.run_dir / "pids", mode=0o700)
        scripts = make_dir(self.run_dir / "bin", mode=0o700)
        programs = []
        for name, command in commands.items():
            script, pid_file = scripts / f"{name}.sh", pids / f"{name}.pid"
            script.write_text(app_script(command, folder=self.root, pid_file=pid_file))
            programs.append(Program(name=name, script=script, pid_file=pid_file, autorestart=self._autorestart))
        return programs

    def _wait_for(self, servers: Sequence[DataServer]) -> None:
        for server in servers:
            started = time.monotonic()
            if not wait_until(server.answers, timeout_s=30):
                raise StackError(f"{server.name} did not answer:\n{tail(self.supervisor.log_file(server.name))}")
            self._say(f"{server.name:<11} ready in {time.monotonic() - started:.1f} s")

    def _prepare(self, env: Mapping[str, str]) -> None:
        """Their output is kept in the log `prepare`; it is shown when a command fails.

        Stacks of one checkout that start at once do this in turn: they collect static files into the same folder.
        """
        log = self.supervisor.log_file("prepare")
        with locked(self.root / ".a2a" / "prepare"), log.open("wb") as output:
            for command in self._prepare_commands:
                started = time.monotonic()
                done = subprocess.run(
                    [sys.executable, *command],
                    cwd=self.root,
                    env={**env, MARKER: self.supervisor.marker},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=180,
                    check=False,
                )
                if done.returncode != 0:
                    raise StackError(f"{' '.join(command)} failed ({done.returncode}):\n{tail(log)}")
                self._say(f"{' '.join(command)} took {time.monotonic() - started:.1f} s")

    def _choose(self, name: str) -> int:
        return self.ports.choose(name.removeprefix("A2A_").removesuffix("_PORT").lower(), preferred=PORTS[name])

    def _choose_port(self) -> int:
        wanted = self._wanted_port()
        if wanted == 0:
            return self.ports.choose(WEB)
        if not is_free(wanted, host=self._given.get("A2A_HOST") or LOOPBACK):
            raise PortInUse(f"Port {wanted} is in use by another program; choose one with --port or A2A_PORT.")
        return wanted

    def _wanted_port(self) -> int:
        return int(self._given.get("A2A_PORT") or DEFAULT_PORT) if self._asked_port is None else self._asked_port

    def _host(self) -> str:
        return reachable(self._given.get("A2A_HOST") or LOOPBACK)

    def _is_ready(self) -> bool:
        infos = self.app_processes()
        if any(info.name == WEB for info in infos):
            return http_answers(self._host(), int(self.env.get("A2A_PORT", 0)), "/healthz")
        return bool(infos) and all(info.state == "RUNNING" for info in infos)

    def _has_failed(self) -> bool:
        """Whether waiting is in vain: supervisord is gone, or what must answer will not be started again."""
        infos = self.app_processes()
        needed = [info for info in infos if info.name == WEB] or infos
        return not self.supervisor.is_alive() or any(info.has_ended for info in needed)

    def _what_failed(self) -> str:
        infos = self.app_processes()
        bad = [info for info in infos if info.state != "RUNNING"] or [info for info in infos if info.name == WEB]
        parts = [f"{i.name} is {i.state}; its log ends:\n{tail(self.supervisor.log_file(i.name))}" for i in bad]
        return "\n".join(parts) or f"supervisord is gone; its log ends:\n{tail(self.log_dir / 'supervisord.log')}"

    def _end_leftovers(self) -> None:
        if self.supervisor.is_alive() or self.supervisor.orphans():
            stopped = self._shutdown()
            self._say(f"Ended what an interrupted stack had left: {', '.join(f'{s.name} ({s.pid})' for s in stopped)}")

    def _shutdown(self) -> list[Stopped]:
        with uninterrupted():
            stopped = self.supervisor.shutdown()
            self.env_file.unlink(missing_ok=True)
            self.targets_file.unlink(missing_ok=True)
            return stopped
