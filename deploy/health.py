"""Health checks of the containers: ``python deploy/health.py CHECK...``; exit 0 if all pass, else 1 and a line of why.

Light on purpose: they run every few seconds in every container, so they import neither Django nor Celery. A check asks
what the process does, not whether it exists: a process that hangs fails it.

- ``web``, ``flower``: their own HTTP endpoint answers 200.
- ``grpc``: the gRPC server takes a connection.
- ``worker``: the Worker row of this container is fresh, which is what the dispatcher counts slots by.
- ``database``: a session from this container has just spoken to PostgreSQL. The dispatcher does each second, active or
  standing by; beat each five seconds, when it looks for changed schedules.
- ``broker``: this container has a connection to the broker; Celery's heartbeats close a dead one. To SQS there is none.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg

TIMEOUT_S = 5
#: A session that said nothing for this long belongs to a process that hangs.
SILENCE_MAX_S = 20
ESTABLISHED = "01"
DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}

OWN_ROW = """
SELECT count(*) FROM tasks_app_worker
WHERE hostname = %s AND state <> 'offline' AND heartbeat_at > now() - %s * interval '1 second'
"""
OWN_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()
  AND application_name <> 'health' AND client_addr IS NOT DISTINCT FROM inet_client_addr()
  AND state_change > now() - %s * interval '1 second'
"""


class Unhealthy(Exception):
    """A check failed; the text says why."""


def web() -> None:
    _http_ok("http://127.0.0.1:8000/healthz")


def flower() -> None:
    _http_ok("http://127.0.0.1:5555/healthcheck")


def grpc() -> None:
    from grpc import FutureTimeoutError, channel_ready_future, insecure_channel

    with insecure_channel("127.0.0.1:50051") as channel:
        try:
            channel_ready_future(channel).result(timeout=TIMEOUT_S)
        except FutureTimeoutError:
            raise Unhealthy(f"no connection within {TIMEOUT_S} s") from None


def worker() -> None:
    heartbeat_s = float(os.environ.get("A2A_HEARTBEAT_S") or 5)
    if not _count(OWN_ROW, socket.gethostname(), 3 * heartbeat_s):
        raise Unhealthy("no fresh heartbeat of a worker of this host in the database")


def database() -> None:
    if not _count(OWN_SESSIONS, SILENCE_MAX_S):
        raise Unhealthy(f"no session of this host spoke to the database in the last {SILENCE_MAX_S} s")


def broker() -> None:
    url = urlsplit(os.environ["A2A_BROKER_URL"])
    if url.scheme == "sqs":
        return
    port = url.port or DEFAULT_PORTS.get(url.scheme, 0)
    addresses = {info[4][0] for info in socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)}
    if not any(peer == (address, port) for peer in connected_peers() for address in addresses):
        raise Unhealthy(f"no connection to the broker at {url.hostname}:{port}")


def connected_peers() -> Iterator[tuple[str, int]]:
    """The other ends of this network namespace's open TCP connections, as the kernel lists them."""
    for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            _, _, remote, state, *_ = line.split()
            if state == ESTABLISHED:
                address, _, port = remote.partition(":")
                yield _address(address), int(port, 16)


def _address(text: str) -> str:
    """The kernel prints addresses as 32-bit words in the machine's byte order."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _http_ok(url: str) -> None:
    with urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 (our own constant addresses)
        if answer.status != 200:
            raise Unhealthy(f"{url} answered {answer.status}")


def _count(query: str, *params: object) -> int:
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, connect_timeout=TIMEOUT_S, application_name="health") as connection:
        row = connection.execute(query.encode(), params).fetchone()
        return int(row[0]) if row else 0


CHECKS: dict[str, Callable[[], None]] = {
    "web": web,
    "flower": flower,
    "grpc": grpc,
    "worker": worker,
    "database": database,
    "broker": broker,
}


def main(names: list[str]) -> int:
    """Runs the named checks; the first that fails is told."""
    for name in names or ["nothing"]:
        if name not in CHECKS:
            sys.stderr.write(f"no check '{name}'; there are: {', '.join(CHECKS)}\n")
            return 1
        try:
            CHECKS[name]()
        except (Unhealthy, OSError, psycopg.Error) as error:
            sys.stderr.write(f"{name}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
