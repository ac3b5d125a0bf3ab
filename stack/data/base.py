"""What the servers have in common: their folders, the account they run as, a socket or a port."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.config import DATA, HELPER, Program
from stack.envfile import write_private
from stack.errors import StackError
from stack.paths import Account, make_dir, socket_fits
from stack.ports import LOOPBACK, Ports
from stack.scripts import MARKER, service_script


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the servers of one stack live and how they are told apart from others'.

    `root` holds a folder per server; `copies` the binaries that the account could not reach otherwise; `marker` is
    their supervisor's run folder. With `tcp` they listen on loopback ports even where a unix socket would do.
    """

    root: Path
    copies: Path
    account: Account | None
    ports: Ports
    marker: str
    tcp: bool
    autorestart: bool


class DataServer(ABC):
    """One server. The folder `<root>/<name>` and its configuration belong to us, `data` and `run` to the account."""

    name: str
    variable: str
    """The environment variable that carries the server's URL."""
    helpers: tuple[str, ...] = ()
    """Names of programs that run beside the server and only for it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.dir = place.root / self.name
        self.data_dir, self.run_dir = self.dir / "data", self.dir / "run"

    @abstractmethod
    def prepare(self) -> None:
        """Choose addresses and write files. Idempotent; called only while the server does not run."""

    @abstractmethod
    def programs(self) -> list[Program]:
        """What supervisord runs for it, in the order of starting; the last one carries the server's name."""

    @abstractmethod
    def url(self) -> str | None:
        """Its address; None before the first `prepare`."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves now: one bounded attempt."""

    def env(self) -> dict[str, str]:
        """The variables by which the application finds it."""
        return {self.variable: self.url() or ""}

    def cleanup_command(self) -> list[str] | None:
        """The command that removes what supervisord cannot stop; none for most."""
        return None

    def kill_command(self) -> list[str] | None:
        """The command that kills the server when its supervised process is only a client of it."""
        return None

    @property
    def user(self) -> str | None:
        """The account's name, None when the server runs as ourselves."""
        return self.place.account.name if self.place.account else None

    def make_folders(self) -> None:
        """Create the server's folders with their owners."""
        make_dir(self.place.root, mode=0o711)
        make_dir(self.dir, mode=0o711)
        for folder in (self.data_dir, self.run_dir):
            make_dir(folder, mode=0o700, account=self.place.account)

    def uses_socket(self, socket: Path) -> bool:
        """Whether it listens on `socket` and no port at all; where the path is too long, on a loopback port."""
        return not self.place.tcp and socket_fits(socket)

    def choose_port(self, what: str = "", preferred: int | None = None) -> int:
        """A free port, the one of last time when it still is."""
        return self.place.ports.choose(what or self.name, preferred=preferred)

    def write(self, name: str, text: str) -> Path:
        """Write a file that only we and the account can read, and only we can change."""
        path = self.dir / name
        write_private(path, text)
        if self.place.account is not None:
            os.chown(path, 0, self.place.account.gid)
            path.chmod(0o640)
        return path

    def program(self, command: Sequence[str], *, env: Mapping[str, str], name: str = "", stop: str = "TERM") -> Program:
        """The supervised process that runs `command`, through a script written here."""
        label = name or self.name
        pid_file = self.run_dir / f"{label}.pid"
        marked = {MARKER: self.place.marker, **env}
        text = service_script(command, folder=self.data_dir, pid_file=pid_file, env=marked)
        return Program(
            name=label,
            script=self.write(f"{label}.sh", text),
            pid_file=pid_file,
            group=HELPER if label in self.helpers else DATA,
            user=self.user,
            stop_signal=stop,
            autostart=True,
            autorestart=self.place.autorestart,
        )

    def run_as_account(self, command: Sequence[str], *, stdin: str = "", timeout_s: float = 60.0) -> None:
        """Run a command as the server's account; its output is shown only when it fails."""
        account = self.place.account
        done = subprocess.run(
            command,
            input=stdin,
            cwd=self.dir,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(self.data_dir)},
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"{command[0]} failed ({done.returncode}):\n{done.stdout}{done.stderr}")

    def loopback(self, what: str = "") -> str:
        """`127.0.0.1:<remembered port>`."""
        return f"{LOOPBACK}:{self.place.ports.remembered(what or self.name)}"
