"""Async connections to Django's database, for the event loops of the web and of the io lane."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import django.db
import psycopg
from django.db import connection

from tasks_app.engine.core import AsyncConnection, Steps, arun

T = TypeVar("T")
P = ParamSpec("P")

RECONNECT_S = 0.2


def conninfo() -> dict[str, Any]:
    """What psycopg needs to connect to Django's database."""
    leave = ("cursor_factory", "context", "pool", "server_side_binding")
    params = connection.get_connection_params()
    return {name: value for name, value in params.items() if name not in leave and value is not None}


#: The database or the connection is at fault, not what was written: Django's classes and psycopg's. NotSupportedError
#: is how a statement that was prepared before a change of the tables fails; a new connection prepares it anew.
OUTAGES = (
    django.db.OperationalError,
    django.db.InterfaceError,
    django.db.NotSupportedError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.NotSupportedError,
)


def is_poison(error: Exception) -> bool:
    """Whether an item of a list made the statement fail, so that the others may be tried without it."""
    return not isinstance(error, OUTAGES)


class Line:
    """One autocommit connection, opened when first needed and again after it broke; one verb at a time.

    A verb is tried again for ``patience_s`` after its connection broke: the ids it carries make it the same verb.
    """

    def __init__(self, *, patience_s: float = 1.0) -> None:
        self._patience_s = patience_s
        self._conn: AsyncConnection | None = None
        self._lock = asyncio.Lock()

    async def run(self, verb: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The verb's result. A broken connection is replaced and the verb tried again; then the error is raised."""
        async with self._lock:
            deadline = time.monotonic() + self._patience_s
            while True:
                try:
                    return await arun(await self._connected(), verb, *args, **kwargs)
                except OUTAGES:
                    if self._conn is not None:
                        await self._conn.close()
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(RECONNECT_S)

    async def close(self) -> None:
        if self._conn is not None:
            await self._conn.close()

    async def _connected(self) -> AsyncConnection:
        if self._conn is None or self._conn.closed:
            self._conn = await psycopg.AsyncConnection.connect(autocommit=True, **conninfo())
        return self._conn
