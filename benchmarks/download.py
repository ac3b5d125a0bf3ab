"""Downloads of artifacts, to the same bytes as a static file: by the same uvicorn, from Starlette's StaticFiles.

``python -m benchmarks.download <path> …`` makes an artifact of each file, as a handler would; prints their paths on the
web process, as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import selectors
import socket
import sys
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from benchmarks import ours
from benchmarks.figures import median, verdict
from benchmarks.processes import answers, free_port, process, said, wait_for

TARGET = 1.3
MB = 1_000_000
#: Of the smaller file, which several clients fetch at once.
SMALL_MB, CLIENTS = 1, 8
#: For how long one rate is looked at.
SECONDS = 0.7
#: So much is taken from a socket at once at most, by a client that reads nothing of it.
READ_BYTES = 1024 * 1024
#: The folder that the peer serves.
FOLDER = "BENCH_STATIC_FOLDER"


class Served(NamedTuple):
    """Where a server gives out the file."""

    port: int
    path: str


class File(NamedTuple):
    """What is fetched, and by how many at once."""

    path: Path
    size_mb: int
    clients: int

    @property
    def text(self) -> str:
        return f"{self.size_mb} MB, {'one client' if self.clients == 1 else f'{self.clients} clients'}"


def main(services: dict[str, str], *, megabytes: int = 100, rounds: int = 7) -> None:
    """Prints each round, and the median ratios of times, of contents in a folder and in the database."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name, "static")
        folder.mkdir()
        files = [_file(folder, megabytes, 1), _file(folder, SMALL_MB, CLIENTS)]
        peer = free_port()
        running.enter_context(_peer(peer, folder))
        served = {"static": [Served(peer, f"/{file.path.name}") for file in files]}
        for where, place in (("folder", str(Path(name, "blobs"))), ("database", "database")):
            env = ours.environment(services, f"download_{where}", A2A_ARTIFACT_STORAGE=place)
            port = free_port()
            running.enter_context(ours.web(env, port))
            served[where] = [Served(port, path) for path in _artifacts(env, files)]
        for at, file in enumerate(files):
            _compare(file, {where: there[at] for where, there in served.items()}, rounds)


def static() -> Starlette:
    """The peer, as uvicorn finds it."""
    return Starlette(routes=[Mount("/", StaticFiles(directory=os.environ[FOLDER]))])


def _peer(port: int, folder: Path) -> AbstractContextManager[Popen[bytes]]:
    """The peer's process, with the options of :func:`benchmarks.ours.web`."""
    command = ["uvicorn", "--factory", f"{__name__}:static", "--port", str(port), "--no-access-log"]
    return process(*command, "--log-level", "warning", env={FOLDER: str(folder), "PYTHONPATH": "."})


def _file(folder: Path, size_mb: int, clients: int) -> File:
    path = folder / f"{clients}-{size_mb}.bin"
    path.write_bytes(random.Random(clients).randbytes(size_mb * MB))
    return File(path, size_mb, clients)


def _artifacts(env: dict[str, str], files: list[File]) -> list[str]:
    """Where the web process serves artifacts of the files."""
    command = [sys.executable, "-m", "benchmarks.download", *(str(file.path) for file in files)]
    return list(json.loads(said(*command, env={**env, "A2A_LOG_LEVEL": "CRITICAL"})))


def _compare(file: File, served: dict[str, Served], rounds: int) -> None:
    for each in served.values():
        wait_for(lambda port=each.port: answers(port))  # type: ignore[misc]
        _check(file, each)
    rates: dict[str, list[float]] = {where: [] for where in served}
    for number in range(1, rounds + 1):
        for where, each in served.items():
            rates[where].append(_rate(file, each))
        print(f"  round {number}: {file.text}: {', '.join(f'{where} {rates[where][-1]:.0f} MB/s' for where in served)}")
    ratio = {where: median([a / b for a, b in zip(rates["static"], rates[where], strict=True)]) for where in served}
    text = f"an artifact of {file.text}, time to that of a static file"
    print(f"{text}: in a folder {ratio['folder']:.2f} (target <= {TARGET:g}: {verdict(ratio['folder'], TARGET)})")
    print(f"the same, in the database: {ratio['database']:.2f}")


def _check(file: File, served: Served) -> None:
    """That it is this file which is served; what is loaded at first use is loaded then."""
    reply = httpx.get(f"http://127.0.0.1:{served.port}{served.path}", timeout=60)
    assert reply.status_code == 200, reply.text
    assert hashlib.sha256(reply.content).digest() == hashlib.sha256(file.path.read_bytes()).digest()


# The client ----------------------------------------------------------------------------------------------------------


def _rate(file: File, served: Served) -> float:
    """MB a second, of all clients together: each asks again when it has all of the answer."""
    buffer = memoryview(bytearray(READ_BYTES))
    with selectors.DefaultSelector() as selector, ExitStack() as lines:
        clients = [_Client(served, file.size_mb * MB) for _ in range(file.clients)]
        for client in clients:
            selector.register(lines.enter_context(client.line), selectors.EVENT_READ, client)
        began = time.perf_counter()
        for client in clients:
            client.ask()
        while selector.get_map():
            for key, _ in selector.select():
                if not key.data.read(buffer):
                    continue
                if time.perf_counter() - began < SECONDS:
                    key.data.ask()
                else:
                    selector.unregister(key.fileobj)
        return file.size_mb * sum(client.times for client in clients) / (time.perf_counter() - began)


class _Client:
    """One connection, on which a file is fetched again and again; it costs little more than the kernel's copying."""

    def __init__(self, served: Served, size_bytes: int) -> None:
        self.line = socket.create_connection(("127.0.0.1", served.port))
        self.times = 0
        self._request = f"GET {served.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self._size_bytes = size_bytes
        #: What has come of the answer's head; None once all of it has.
        self._head: bytes | None = None
        self._left = 0

    def ask(self) -> None:
        self._head, self._left = b"", self._size_bytes
        self.line.sendall(self._request)

    def read(self, buffer: memoryview) -> bool:
        """Takes what has come; whether the file is whole. Raises for an answer that is not the file."""
        count = self.line.recv_into(buffer)
        if not count:
            raise ConnectionError("the server closed a connection")
        if self._head is not None:
            head, end, body = (self._head + buffer[:count]).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return False
            assert b" 200 " in head[:16], head
            assert b"\r\ncontent-length: %d\r\n" % self._size_bytes in head.lower() + b"\r\n", head
            self._head, count = None, len(body)
        self._left -= count
        self.times += not self._left
        return not self._left


# The artifacts -------------------------------------------------------------------------------------------------------


def _make(paths: list[str]) -> None:
    import django

    django.setup()
    from tasks_app.agents import agent
    from workers.testing import one_process

    @agent("filing", lane="io", description="Makes an artifact of each of its files.")
    async def filing(ctx: Any) -> None:
        for path in paths:
            await asyncio.to_thread(ctx.artifact, Path(path), name=path, media_type="application/octet-stream")

    with one_process() as system:
        task = system.run("filing", timeout_s=60)
    assert task["status"] == "completed", task
    urls = {each["name"]: each["content_url"] for each in task["artifacts"]}
    print(json.dumps([urls[path] for path in paths]))


if __name__ == "__main__":
    _make(sys.argv[1:])
