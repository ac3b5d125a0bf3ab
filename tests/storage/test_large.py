"""Files far larger than the web process may grow, up and down through a real one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from stack.ports import find_free
from stack.scripts import read_procfile
from tests.live import wait_for

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

MB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]
#: By how much the web process may grow, whatever the size of a file.
GROWTH_MB = 64
#: What is loaded at first use is no file's.
FIRST_MB = 3


class Web:
    """A web process, as the Procfile starts it, and a client of it."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid = pid
        self._line = HTTPConnection("127.0.0.1", port, timeout=60)

    def upload(self, size_mb: int) -> dict[str, Any]:
        """What is said of a file of this size, whose SHA-256 is checked."""
        sha256 = hashlib.sha256()

        def coming() -> Iterator[bytes]:
            for piece in pieces(size_mb):
                sha256.update(piece)
                yield piece

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_mb * MB)}
        self._line.request("POST", "/api/v1/files/", coming(), headers)
        answer = self._line.getresponse()
        said = answer.read()
        assert answer.status == 201, said
        kept: dict[str, Any] = json.loads(said)
        assert (kept["size_bytes"], kept["sha256"]) == (size_mb * MB, sha256.hexdigest())
        return kept

    def download(self, kept: dict[str, Any]) -> None:
        """Reads the file, which must be what was sent."""
        self._line.request("GET", kept["url"])
        answer = self._line.getresponse()
        assert answer.status == 200, answer.read()
        sha256, buffer = hashlib.sha256(), memoryview(bytearray(MB))
        while count := answer.readinto(buffer):
            sha256.update(buffer[:count])
        assert sha256.hexdigest() == kept["sha256"]

    def growth_mb(self, act: Callable[[], object]) -> float:
        """By how much the process was larger than before, at its largest, while this was done."""
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # the peak is from now on
        before = self._memory_kb("VmRSS")
        act()
        return (self._memory_kb("VmHWM") - before) / 1024

    def close(self) -> None:
        self._line.close()

    def _memory_kb(self, name: str) -> int:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def pieces(size_mb: int) -> Iterator[bytes]:
    """The bytes of a file: a MiB at a time, none of them like another."""
    rest = random.Random(1).randbytes(MB - 8)
    for number in range(size_mb):
        yield number.to_bytes(8, "big") + rest


@contextmanager
def web(folder: Path, **env: str) -> Iterator[Web]:
    """One that uses the tests' database; it has ended before that is emptied."""
    database, port = connection.settings_dict, find_free()
    url = f"postgresql://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    here = {"A2A_OPEN_MODE": "1", "A2A_PORT": str(port), "DATABASE_URL": f"{url}/{database['NAME']}", "PATH": path}
    log = folder / "web.log"
    with log.open("wb") as output:
        command = ["sh", "-c", f"exec {read_procfile(ROOT / 'Procfile')['web']}"]
        running = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **here, **env}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: _answers(port) or running.poll() is not None, what="the web process answers")
        assert running.poll() is None, log.read_text()
        client = Web(running.pid, port)
        yield client
        client.close()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        running.kill()
        running.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Removed at the end, and not only after the next runs, as pytest does."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("place", "sealed", "size_mb"),
    [("folder", False, 1024), ("folder", True, 200), ("database", False, 200), ("database", True, 200)],
)
def test_a_file_of_any_size_goes_up_and_down_in_constant_memory(
    folder: Path, place: str, sealed: bool, size_mb: int
) -> None:
    env = {
        "A2A_ARTIFACT_STORAGE": str(folder / "blobs") if place == "folder" else place,
        "A2A_CONTENT_KEYS": Fernet.generate_key().decode() if sealed else "",
    }
    kept: dict[str, Any] = {}
    with web(folder, **env) as server:
        server.download(server.upload(FIRST_MB))
        up_mb = server.growth_mb(lambda: kept.update(server.upload(size_mb)))
        down_mb = server.growth_mb(lambda: server.download(kept))
    assert max(up_mb, down_mb) <= GROWTH_MB, f"grew by {up_mb:.0f} MB on the way up, {down_mb:.0f} MB on the way down"
