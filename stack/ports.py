"""Free loopback ports, chosen once and remembered in a file.

They come from below the kernel's ephemeral range: a port inside it can be taken by any outgoing connection while its
server restarts, and a client that keeps reconnecting to it can even connect to itself.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Collection
from pathlib import Path

from stack.errors import StackError

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 29_999


def reachable(host: str) -> str:
    """Where to reach, from here, what listens on this address."""
    return LOOPBACK if host in ("0.0.0.0", "::") else host  # noqa: S104 - every address includes loopback


def is_free(port: int, *, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def find_free(*, exclude: Collection[int] = ()) -> int:
    """A free port that is not in `exclude`; random, so that two stacks starting together hardly ever meet."""
    for port in random.SystemRandom().sample(range(FIRST, LAST + 1), 500):
        if port not in exclude and is_free(port):
            return port
    raise StackError(f"No free port between {FIRST} and {LAST} on {LOOPBACK}.")


class Ports:
    """The named ports of one state folder."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def remembered(self, name: str) -> int | None:
        """The port chosen for `name` earlier, whoever listens there now."""
        return self._load().get(name)

    def choose(self, name: str, *, preferred: int | None = None) -> int:
        """A port for a server that does not run yet: the remembered one, else the preferred, else any that is free."""
        chosen = self._load()
        others = {port for other, port in chosen.items() if other != name}
        for port in (chosen.get(name), preferred):
            if port is not None and port not in others and is_free(port):
                break
        else:
            port = find_free(exclude=others)
        self._save({**chosen, name: port})
        return port

    def _load(self) -> dict[str, int]:
        try:
            return {str(name): int(port) for name, port in json.loads(self.file.read_text()).items()}
        except (OSError, ValueError):
            return {}

    def _save(self, chosen: dict[str, int]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(chosen, indent=1, sort_keys=True))
