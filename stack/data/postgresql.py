"""PostgreSQL: a small durable cluster with one database, `a2a`, owned by the role `a2a`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from stack import binaries
from stack.config import Program
from stack.data.base import DataServer
from stack.envfile import kept_secret
from stack.errors import StackError
from stack.health import postgres_answers
from stack.ports import LOOPBACK

DATABASE = ROLE = "a2a"
LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "1",
    "autovacuum_max_workers": "2",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgreSQL(DataServer):
    """Reached by its private unix socket without a password, or by a loopback port with a generated one."""

    name = "postgresql"
    variable = "DATABASE_URL"
    wheel_first = False

    @property
    def socket(self) -> Path:
        """The unix socket; its folder is the account's alone."""
        return self.run_dir / ".s.PGSQL.5432"

    def prepare(self) -> None:
        """Create the cluster at the first call."""
        self.make_folders()
        if not self.uses_socket(self.socket):
            self.choose_port()
        if not self._has_cluster():
            self._create_cluster()

    def programs(self) -> list[Program]:
        """The postmaster; INT is its fast shutdown (TERM would wait for every client)."""
        command = [str(self._bin("postgres")), "-D", str(self.data_dir / "cluster")]
        for name, value in self._settings().items():
            command += ["-c", f"{name}={value}"]
        return [self.program(command, env={}, stop="INT")]

    def url(self) -> str | None:
        """A libpq URI that django-environ understands too: the socket's folder is in the query."""
        if self.uses_socket(self.socket):
            return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.run_dir))}"
        if self.place.ports.remembered(self.name) is None:
            return None
        return f"postgresql://{ROLE}:{kept_secret(self.dir / 'password')}@{self.loopback()}/{DATABASE}"

    def answers(self) -> bool:
        """Whether the database accepts a connection."""
        url = self.url()
        return url is not None and postgres_answers(url)

    def _settings(self) -> dict[str, str]:
        by_socket = self.uses_socket(self.socket)
        listen = {
            "listen_addresses": "" if by_socket else LOOPBACK,
            "unix_socket_directories": str(self.run_dir) if by_socket else "",
            "port": "5432" if by_socket else str(self.place.ports.remembered(self.name)),
        }
        # The worker processes of 18's asynchronous reads cost more memory than they save here.
        newer = {"io_method": "sync"} if self._installation().major >= 18 else {}
        return {**SETTINGS, **newer, **listen}

    def _has_cluster(self) -> bool:
        return self._cluster_major() is not None

    def _cluster_major(self) -> int | None:
        try:
            return int((self.data_dir / "cluster" / "PG_VERSION").read_text())
        except (OSError, ValueError):
            return None

    def _installation(self) -> binaries.Postgres:
        """The installation to run: of the data's own major version once there are data."""
        found = binaries.find_postgres(wheel_first=self.wheel_first)
        major = self._cluster_major()
        for candidate in found:
            if major in (None, candidate.major):
                return candidate
        if not found:
            raise StackError("No PostgreSQL was found; `pip install -r requirements.txt` brings one.")
        have = ", ".join(str(candidate.major) for candidate in found)
        raise StackError(f"{self.data_dir} is of PostgreSQL {major}; found: {have}. Install it, or delete the data.")

    def _bin(self, program: str) -> Path:
        bin_dir = self._installation().bin_dir
        place = self.place
        return binaries.reachable(bin_dir / program, tree=bin_dir.parent, account=place.account, copies=place.copies)

    def _create_cluster(self) -> None:
        """Made aside and renamed, so that a cluster whose making was interrupted is never used."""
        draft = self.data_dir / "draft"
        if draft.exists():
            shutil.rmtree(draft)
        kept_secret(self.dir / "password")
        password = self.write("password.init", (self.dir / "password").read_text() + "\n")
        initdb = [str(self._bin("initdb")), "-D", str(draft), "-U", ROLE, "--encoding=UTF8", f"--locale={LOCALE}"]
        authentication = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}"]
        self.run_as_account([*initdb, *authentication])
        password.unlink()
        single = [str(self._bin("postgres")), "--single", "-D", str(draft), "postgres"]
        self.run_as_account(single, stdin=f"CREATE DATABASE {DATABASE};\n")
        self.run_as_account(["mv", str(draft), str(self.data_dir / "cluster")])


class WheelPostgreSQL(PostgreSQL):
    """The same, from the Python wheel where it is installed: the embedded default, alike on every machine."""

    wheel_first = True
