"""Redis (or Valkey): append-only file on, so that what a killed server had accepted is mostly still there."""

from __future__ import annotations

from pathlib import Path

from stack import binaries
from stack.config import Program
from stack.data.base import DataServer
from stack.envfile import kept_secret
from stack.errors import StackError
from stack.health import redis_answers
from stack.ports import LOOPBACK

SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "daemonize": "no",
    "supervised": "no",
    "maxmemory-policy": "noeviction",
}


class Redis(DataServer):
    """Reached by its private unix socket, or by a loopback port with a generated password."""

    name = "redis"
    variable = "REDIS_URL"

    @property
    def socket(self) -> Path:
        """The unix socket; its folder is the account's alone."""
        return self.run_dir / "redis.sock"

    def prepare(self) -> None:
        """Write the configuration."""
        self.make_folders()
        if not self.uses_socket(self.socket):
            self.choose_port()
        self.write("redis.conf", "".join(f"{name} {value}\n" for name, value in self._settings().items()))

    def programs(self) -> list[Program]:
        """The server."""
        binary = binaries.find_redis()
        if binary is None:
            raise StackError("No Redis was found; install redis-server or valkey-server.")
        place = self.place
        server = binaries.reachable(binary, tree=binary.parent, account=place.account, copies=place.copies)
        return [self.program([str(server), str(self.dir / "redis.conf")], env={})]

    def url(self) -> str | None:
        """`unix://…` or `redis://…`."""
        if self.uses_socket(self.socket):
            return f"unix://{self.socket}?db=0"
        if self.place.ports.remembered(self.name) is None:
            return None
        return f"redis://:{kept_secret(self.dir / 'password')}@{self.loopback()}/0"

    def answers(self) -> bool:
        """Whether it answers PING."""
        url = self.url()
        return url is not None and redis_answers(url)

    def _settings(self) -> dict[str, str]:
        if self.uses_socket(self.socket):
            listen = {"port": "0", "unixsocket": f'"{self.socket}"', "unixsocketperm": "700"}
        else:
            port = str(self.place.ports.remembered(self.name))
            listen = {"bind": LOOPBACK, "port": port, "requirepass": kept_secret(self.dir / "password")}
        return {"dir": f'"{self.data_dir}"', **SETTINGS, **listen}


def broker_url(redis_url: str) -> str:
    """Celery's name for the same server: `unix:///path?db=0` becomes `redis+socket:///path`."""
    if not redis_url.startswith("unix://"):
        return redis_url
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    database = query.removeprefix("db=")
    return f"redis+socket://{path}" + (f"?virtual_host={database}" if database not in ("", "0") else "")
