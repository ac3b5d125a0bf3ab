"""A server in a container, where the machine has a running Docker engine and not the server.

supervisord runs the `docker run` client, which passes signals on; the data are in a named volume.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace

from stack.config import Program
from stack.data.base import DataServer, Place
from stack.envfile import kept_secret
from stack.health import amqp_answers, postgres_answers, redis_answers
from stack.ports import LOOPBACK

LABEL = "a2a.stack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What differs between the servers' images. `url` and `options` hold `{secret}` and `{address}`."""

    image: str
    variable: str
    port: int
    volume: str
    url: str
    answers: Callable[[str], bool]
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


IMAGES = {
    "postgresql": Image(
        image="postgres:17",
        variable="DATABASE_URL",
        port=5432,
        volume="/var/lib/postgresql/data",
        url="postgresql://a2a:{secret}@{address}/a2a",
        answers=postgres_answers,
        options=("-e", "POSTGRES_USER=a2a", "-e", "POSTGRES_DB=a2a", "-e", "POSTGRES_PASSWORD={secret}"),
    ),
    "rabbitmq": Image(
        image="rabbitmq:4-management",
        variable="A2A_BROKER_URL",
        port=5672,
        volume="/var/lib/rabbitmq",
        url="amqp://a2a:{secret}@{address}//",
        answers=amqp_answers,
        options=("--hostname", "a2a", "-e", "RABBITMQ_DEFAULT_USER=a2a", "-e", "RABBITMQ_DEFAULT_PASS={secret}"),
    ),
    "redis": Image(
        image="redis:7",
        variable="REDIS_URL",
        port=6379,
        volume="/data",
        url="redis://:{secret}@{address}/0",
        answers=redis_answers,
        arguments=("--appendonly", "yes", "--requirepass", "{secret}"),
    ),
}


def engine_runs() -> bool:
    """Whether `docker info` is answered by an engine."""
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


class Container(DataServer):
    """One of `IMAGES` on a loopback port."""

    def __init__(self, place: Place, name: str) -> None:
        self.name, self.image = name, IMAGES[name]
        self.variable = self.image.variable
        super().__init__(place)
        digest = hashlib.sha256(os.fsencode(self.dir)).hexdigest()[:8]
        self.container = f"a2a-{digest}-{name}"

    def prepare(self) -> None:
        """Choose the port."""
        self.make_folders()
        self.choose_port()

    def programs(self) -> list[Program]:
        """The client; run as ourselves, who may speak to the engine. What an earlier one left is removed first."""
        command = ["sh", "-c", f'docker rm -f {self.container} >/dev/null 2>&1; exec "$@"', "sh", *self._run_command()]
        env = {name: value for name, value in os.environ.items() if name == "HOME" or name.startswith("DOCKER_")}
        return [replace(self.program(command, env=env), user=None)]

    def url(self) -> str | None:
        """On the port chosen; None before."""
        if self.place.ports.remembered(self.name) is None:
            return None
        return self.image.url.format(secret=self._secret(), address=self.loopback())

    def answers(self) -> bool:
        """Whether the server in the container answers."""
        url = self.url()
        return url is not None and self.image.answers(url)

    def kill_command(self) -> list[str] | None:
        """The engine's KILL; killing the client would leave the server running."""
        return ["docker", "kill", self.container]

    def cleanup_command(self) -> list[str] | None:
        """Remove the container of a client that was killed; the volume stays."""
        return ["docker", "rm", "-f", self.container]

    def _run_command(self) -> list[str]:
        image, secret = self.image, self._secret()
        publish = f"{LOOPBACK}:{self.place.ports.remembered(self.name)}:{image.port}"
        options = ["--name", self.container, "--label", f"{LABEL}={self.dir}", "-p", publish]
        options += ["-v", f"{self.container}:{image.volume}"]
        filled = [[part.format(secret=secret) for part in parts] for parts in (image.options, image.arguments)]
        return ["docker", "run", "--rm", *options, *filled[0], image.image, *filled[1]]

    def _secret(self) -> str:
        return kept_secret(self.dir / "password")
