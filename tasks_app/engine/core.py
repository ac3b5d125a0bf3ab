"""How verbs run: on Django's connection, or on an async psycopg connection; with retries where nothing was done."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, NamedTuple, ParamSpec, TypeVar

import psycopg
from django.db import connection, transaction
from django.db.utils import OperationalError

from artifacts_app import blobs
from artifacts_app.blobs import Stored
from tasks_app.engine.arrays import bound

T = TypeVar("T")
P = ParamSpec("P")
Row = tuple[Any, ...]
AsyncConnection = psycopg.AsyncConnection[Row]


class Statement(NamedTuple):
    """One SQL statement with its named parameters."""

    sql: str
    params: dict[str, Any]


class Contents(NamedTuple):
    """Contents that stand in a storage: of each it is answered with a row of its bytes, in order.

    Raises OSError for what the storage has lost or cannot give; ``or_none``: the row holds None.
    """

    stored: Sequence[Stored]
    or_none: bool = False


log = logging.getLogger(__name__)
#: A verb under way: yields statements, receives each one's rows, returns the verb's result.
Steps = Generator[Statement | Contents, list[Row], T]

#: Deadlock and serialization failure: PostgreSQL undid everything, so the verb may simply run again.
RETRYABLE = ("40P01", "40001")
ATTEMPTS = 5
BACKOFF_S = 0.01
#: Of a process: each has a connection to the database, where contents stand there.
_STORAGE_THREADS = ThreadPoolExecutor(4, thread_name_prefix="storage")


def is_retryable(error: OperationalError) -> bool:
    """Whether PostgreSQL undid a transaction of Django's, so that the same may simply be tried again."""
    return getattr(error.__cause__, "sqlstate", None) in RETRYABLE


def retried(act: Callable[[], T]) -> T:
    """What it returns; a transaction of Django's that PostgreSQL undid is tried again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return act()
        except OperationalError as error:
            if not is_retryable(error) or attempt == ATTEMPTS:
                raise
            time.sleep(BACKOFF_S * attempt)
    raise AssertionError("unreachable")


_NAMED = re.compile(r"%\((\w+)\)s")


@cache
def _numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """The statement as PostgreSQL takes it, with ``$1``, ``$2``, …; and the names of its parameters in that order."""
    names = tuple(dict.fromkeys(_NAMED.findall(sql)))
    numbers = {name: f"${number}" for number, name in enumerate(names, 1)}
    return _NAMED.sub(lambda match: numbers[match[1]], sql).replace("%%", "%"), names


def _prepared(statement: Statement) -> tuple[str, list[Any]]:
    """What psycopg's raw cursors execute. Its others read a long statement anew each time to find its parameters."""
    sql, names = _numbered(statement.sql)
    return sql, [bound(statement.params[name]) for name in names]


async def in_storage_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function returns that waits for a storage. Its connection of Django's is kept as a request's would be."""
    called = partial(_then_let_go, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_STORAGE_THREADS, called)


def on_storage_thread(function: Callable[P, T]) -> Callable[P, T]:
    """The function, called there and waited for: on a connection of its own, outside of the caller's transaction."""

    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return _STORAGE_THREADS.submit(partial(_then_let_go, function, *args, **kwargs)).result()

    return called


def _then_let_go(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    finally:
        connection.close_if_unusable_or_obsolete()


def _loaded(contents: Contents) -> list[Row]:
    return [(_content(each, or_none=contents.or_none),) for each in contents.stored]


def _content(stored: Stored, *, or_none: bool) -> bytes | None:
    try:
        return blobs.load(stored)
    except OSError as error:
        if not or_none:
            raise
        log.error("a content cannot be read: %s", error)
        return None


def transactional(verb: Callable[P, Steps[T]]) -> Callable[P, Steps[T]]:
    """Marks a verb whose statements must share one transaction; the others commit each by itself."""
    verb.transactional = True  # type: ignore[attr-defined]
    return verb


def run(verb: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """The verb's result, on Django's connection of this thread.

    Retries deadlocks; any other database error is raised as Django's.
    """
    for attempt in range(1, ATTEMPTS + 1):
        scope: AbstractContextManager[Any] = transaction.atomic() if hasattr(verb, "transactional") else nullcontext()
        try:
            connection.ensure_connection()
            # psycopg's own cursor, because Django's binds in the client and so never prepares: planning the larger
            # statements costs more than running them.
            with scope, connection.wrap_database_errors, psycopg.RawCursor(connection.connection) as cursor:
                steps = verb(*args, **kwargs)
                rows: list[Row] | None = None
                while True:
                    try:
                        statement = next(steps) if rows is None else steps.send(rows)
                    except StopIteration as stop:
                        return stop.value  # type: ignore[no-any-return]
                    if isinstance(statement, Contents):
                        rows = _loaded(statement)
                        continue
                    cursor.execute(*_prepared(statement), prepare=True)
                    rows = cursor.fetchall() if cursor.description else []
        except OperationalError as error:
            if not is_retryable(error) or attempt == ATTEMPTS or connection.in_atomic_block:
                raise
            time.sleep(BACKOFF_S * attempt)
    raise AssertionError("unreachable")


async def arun(conn: AsyncConnection, verb: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """The verb's result, on this autocommit connection, which nobody else may use meanwhile.

    Retries deadlocks; any other database error is raised as psycopg's.
    """
    for attempt in range(1, ATTEMPTS + 1):
        scope: AbstractAsyncContextManager[Any] = (
            conn.transaction() if hasattr(verb, "transactional") else nullcontext()
        )
        try:
            async with scope, psycopg.AsyncRawCursor(conn) as cursor:
                steps = verb(*args, **kwargs)
                rows: list[Row] | None = None
                while True:
                    try:
                        statement = next(steps) if rows is None else steps.send(rows)
                    except StopIteration as stop:
                        return stop.value  # type: ignore[no-any-return]
                    if isinstance(statement, Contents):
                        rows = await in_storage_thread(_loaded, statement)
                        continue
                    await cursor.execute(*_prepared(statement), prepare=True)
                    rows = await cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError as error:
            if error.sqlstate not in RETRYABLE or attempt == ATTEMPTS:
                raise
            await asyncio.sleep(BACKOFF_S * attempt)
    raise AssertionError("unreachable")
