"""Starts and stops what a benchmark measures."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], *, timeout_s: float = 60.0, pause_s: float = 0.05) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(pause_s)


@contextmanager
def process(*command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the command with this interpreter's own tools; its output is shown only if it fails."""
    with tempfile.TemporaryFile() as output:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        running = subprocess.Popen(
            command, env={**os.environ, "PATH": path, **env}, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield running
        except BaseException:
            output.seek(0)
            sys.stderr.write(output.read().decode(errors="replace")[-3000:])
            raise
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def finished(*command: str, env: dict[str, str]) -> None:
    """Runs the command to its end. Raises CalledProcessError if it fails."""
    subprocess.run(command, env={**os.environ, **env}, check=True, stdout=subprocess.DEVNULL)


def said(*command: str, env: dict[str, str]) -> str:
    """What the command prints until it ends. Raises CalledProcessError if it fails."""
    return subprocess.run(command, env={**os.environ, **env}, check=True, stdout=subprocess.PIPE, text=True).stdout


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
