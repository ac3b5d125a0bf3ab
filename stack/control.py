"""supervisord's XML-RPC over its unix socket, with a timeout on every call."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALREADY_STARTED, NOT_RUNNING, SPAWN_ERROR = 60, 70, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """What supervisord says of one process. `state` is its word: RUNNING, STARTING, BACKOFF, STOPPED, EXITED, FATAL."""

    name: str
    group: str
    state: str
    pid: int
    uptime_s: int
    description: str

    @property
    def is_up(self) -> bool:
        """Whether the process exists, though it may be younger than the second supervisord wants to see."""
        return self.state in ("RUNNING", "STARTING") and self.pid > 0

    @property
    def has_ended(self) -> bool:
        """Whether it is down and supervisord will not start it again by itself."""
        return self.state in ("STOPPED", "EXITED", "FATAL", "UNKNOWN")


class Control:
    """The calls that are needed; each raises OSError or xmlrpc.client.Error when supervisord does not answer."""

    def __init__(self, socket_path: Path, *, timeout_s: float = 5.0) -> None:
        self._proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(socket_path, timeout_s))

    def processes(self) -> list[ProcessInfo]:
        """Every process, in the order of the configuration's groups."""
        return [_info(raw) for raw in self._call("getAllProcessInfo")]

    def start(self, group: str, name: str) -> None:
        """Start a process and return at once; nothing happens when it runs."""
        self._call("startProcess", f"{group}:{name}", False, ignore=(ALREADY_STARTED, SPAWN_ERROR))

    def stop(self, group: str, name: str) -> None:
        """Ask a process to stop and return at once; nothing happens when it is down."""
        self._call("stopProcess", f"{group}:{name}", False, ignore=(NOT_RUNNING,))

    def shutdown(self) -> None:
        """Ask supervisord to stop everything, groups in reverse order, and to exit."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: object, ignore: tuple[int, ...] = ()) -> Any:
        try:
            return getattr(self._proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in ignore:
                return None
            raise


def _info(raw: dict[str, Any]) -> ProcessInfo:
    return ProcessInfo(
        name=raw["name"],
        group=raw["group"],
        state=raw["statename"],
        pid=raw["pid"],
        uptime_s=max(0, raw["now"] - raw["start"]) if raw["pid"] else 0,
        description=raw["spawnerr"] or raw["description"],
    )


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    """A connection per call: a kept one would outlive the supervisord it was made to."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._path, self._timeout_s = path, timeout_s

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return _Connection(self._path, self._timeout_s)
