"""RabbitMQ: one private node on loopback, with an epmd of its own.

The node is named after its folder and keeps its data there, so that it comes back with its quorum queues after a kill.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from stack import binaries
from stack.config import Program
from stack.data.base import DataServer
from stack.errors import StackError
from stack.health import amqp_answers
from stack.ports import LOOPBACK

EPMD = "epmd"
_ERL_ARGS = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"


class RabbitMQ(DataServer):
    """Reached as guest on a loopback port.

    Without the management plugin: measured, it adds 2 s to each start and 6 s to each stop.
    """

    name = "rabbitmq"
    variable = "A2A_BROKER_URL"
    helpers = (EPMD,)

    def prepare(self) -> None:
        """Choose the three ports, write the configuration and the cookie."""
        self.make_folders()
        for what in (self.name, "rabbitmq-distribution", EPMD):
            self.choose_port(what)
        self.write("rabbitmq.conf", self._config())
        self.write("enabled_plugins", "[].\n")
        self.write("environment.conf", "")  # in place of the machine's /etc/rabbitmq/rabbitmq-env.conf
        self._write_cookie()

    def programs(self) -> list[Program]:
        """epmd first, supervised: the one that a node starts by itself would outlive it."""
        script = binaries.find_rabbitmq()
        if script is None:
            raise StackError("No RabbitMQ was found.")
        epmd = ["epmd", "-address", LOOPBACK, "-port", str(self.place.ports.remembered(EPMD))]
        return [self.program(epmd, env={}, name=EPMD), self.program([str(script)], env=self._environment())]

    def url(self) -> str | None:
        """The default virtual host, as guest."""
        port = self.place.ports.remembered(self.name)
        return f"amqp://guest:guest@{LOOPBACK}:{port}//" if port else None

    def answers(self) -> bool:
        """Whether the broker answers an AMQP header; its listener opens last."""
        url = self.url()
        return url is not None and amqp_answers(url)

    def _config(self) -> str:
        port = self.place.ports.remembered
        lines = [
            f"listeners.tcp.1 = {LOOPBACK}:{port(self.name)}",
            "vm_memory_high_watermark.absolute = 512MB",
            "disk_free_limit.absolute = 50MB",
            "log.file = false",
            "log.console = true",
            "log.console.level = info",
            "log.console.use_colors = off",
        ]
        return "\n".join(lines) + "\n"

    def _environment(self) -> dict[str, str]:
        port = self.place.ports.remembered
        digest = hashlib.sha256(os.fsencode(self.dir)).hexdigest()[:8]
        return {
            "HOME": str(self.dir),
            "ERL_EPMD_PORT": str(port(EPMD)),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"a2a-{digest}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.data_dir),
            "RABBITMQ_LOG_BASE": str(self.run_dir),
            "RABBITMQ_CONFIG_FILE": str(self.dir / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.dir / "none.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.dir / "environment.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.dir / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self.run_dir / "node"),
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(port(self.name)),
            "RABBITMQ_DIST_PORT": str(port("rabbitmq-distribution")),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERL_ARGS,
            # The start script then becomes the Erlang machine instead of waiting for it: signals reach the broker.
            "detached": "1",
        }

    def _write_cookie(self) -> None:
        """Erlang wants the cookie owned by the account and closed to all others; the folder around it stays ours."""
        cookie = self.dir / ".erlang.cookie"
        if cookie.exists():
            return
        draft = Path(f"{cookie}.new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as handle:
            handle.write(secrets.token_hex(20))
        if self.place.account is not None:
            os.chown(draft, self.place.account.uid, self.place.account.gid)
        draft.rename(cookie)
