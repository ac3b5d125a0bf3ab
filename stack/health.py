"""Whether a server answers. Each check is one bounded attempt; `wait_until` repeats it."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"


def wait_until(condition: Callable[[], bool], *, timeout_s: float, every_s: float = 0.05) -> bool:
    """Ask `condition` until it holds; False when it still does not after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def postgres_answers(url: str) -> bool:
    """Whether the database of `url` accepts a connection."""
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def redis_answers(url: str) -> bool:
    """Whether the server answers PING (it does not while it loads its data)."""
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def amqp_answers(url: str) -> bool:
    """Whether the broker answers an AMQP header; over TLS, whether it accepts a connection."""
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "localhost", parts.port or (5671 if parts.scheme == "amqps" else 5672))
        with socket.create_connection(address, timeout=2) as connection:
            if parts.scheme == "amqps":
                return True
            connection.sendall(_AMQP_HEADER)
            return bool(connection.recv(8))
    except OSError:
        return False


def http_answers(host: str, port: int, path: str) -> bool:
    """Whether GET `path` answers 200."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
