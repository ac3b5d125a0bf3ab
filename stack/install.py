"""Installing missing servers from the distribution, where we are root on Debian or Ubuntu."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence

from stack.errors import StackError

PACKAGES = {"rabbitmq": "rabbitmq-server", "redis": "redis-server", "postgresql": "postgresql"}
# With RUNLEVEL=1 the packages do not start daemons of their own, which nobody asked for.
_ENV = {"RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}


def can_install() -> bool:
    """Whether we are root and apt-get is there."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(servers: Sequence[str], *, say: Callable[[str], None]) -> None:
    """Install the packages of `servers`; apt's words are shown only when it fails."""
    packages = [PACKAGES[server] for server in servers]
    say(f"Installing {', '.join(packages)} with apt-get (usually half a minute to two minutes) ...")
    started = time.monotonic()
    _apt("update", timeout_s=180)
    _apt("install", "-y", "--no-install-recommends", *packages, timeout_s=900)
    say(f"Installed in {time.monotonic() - started:.0f} s.")


def _apt(*arguments: str, timeout_s: float) -> None:
    command = ["apt-get", *arguments]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **_ENV},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"{' '.join(command)} did not end within {timeout_s:.0f} s.") from None
    if done.returncode != 0:
        raise StackError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
