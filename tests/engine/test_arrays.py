"""Array parameters reach PostgreSQL as they are, whatever they hold; look-ups by id read no more than their rows."""

from __future__ import annotations

import math
import random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import DataError, connection

from tasks_app import engine
from tasks_app.engine.arrays import BYTES_MAX, bound
from tasks_app.engine.claim import CLAIM
from tasks_app.engine.core import Statement, Steps, _prepared
from tasks_app.models import Client
from tasks_app.status import Lane
from tests.factory import admit, claim_request, new_task

pytestmark = pytest.mark.django_db(transaction=True)

_random = random.Random(7)
LISTS: dict[str, list[Any]] = {
    "text": [chr(code) for code in range(1, 0x300)]
    + ["".join(_random.choices("{}\",\\ \t\nNUL'ä€𝄞", k=8)) for _ in range(200)]
    + ["NULL", "null", "", "{}", '{"a","b"}', "a\\b", "'; DROP TABLE x; --", "%(values)s", "%s", "$1"],
    "bytea": [bytes([code]) for code in range(256)] + [b"", b"\\x00", _random.randbytes(BYTES_MAX)],
    "int": [0, -1, 2**31 - 1, -(2**31)],
    "bigint": [2**63 - 1, -(2**63)],
    "float8": [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.pi, math.inf, -math.inf],
    "boolean": [True, False],
    "uuid": [UUID(int=0), UUID(int=2**128 - 1), uuid4()],
}


def echo(values: list[Any], kind: str) -> Steps[Any]:
    rows = yield Statement(f"SELECT %(values)s::{kind}[], '%%'", {"values": values})
    return rows[0]


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_comes_back_as_it_was(kind: str) -> None:
    values = [None, *LISTS[kind], None]
    assert isinstance(bound(values), str)
    assert engine.run(echo, values, kind) == (values, "%")
    assert engine.run(echo, [], kind)[0] == []


def test_what_is_no_number_comes_back_as_such() -> None:
    assert math.isnan(engine.run(echo, [math.nan], "float8")[0][0])


@pytest.mark.parametrize("bad", ["\x00", "\ud800"])
def test_text_that_postgresql_cannot_hold_is_refused(bad: str) -> None:
    with pytest.raises((ValueError, DataError)):
        engine.run(echo, [bad], "text")


def test_large_content_and_other_types_go_as_psycopg_sends_them() -> None:
    large = [b"\x00\xff" * BYTES_MAX]
    assert bound(large) is large
    assert engine.run(echo, large, "bytea")[0] == large
    assert engine.run(echo, [Lane.CPU], "text")[0] == ["cpu"]


def test_a_claim_finds_its_rows_by_their_ids_on_a_table_without_statistics_too(owner: Client) -> None:
    engine.run(engine.create, [new_task(owner) for _ in range(1000)])
    hints = admit({Lane.IO: 1000})
    assert len(hints) == 1000
    request = claim_request(hints[500].task_id, hints[500].epoch)
    params: dict[str, Any] = {"agents": None, "memory_mb": 0, "cores": 0.0, "disk_mb": 0, "lease_s": 30}
    params |= {name: [getattr(request, name)] for name in ("task_id", "epoch", "attempt_id", "worker", "pid")}
    sql, values = _prepared(Statement(CLAIM, params))
    connection.ensure_connection()
    with psycopg.ClientCursor(connection.connection) as cursor:
        cursor.execute(f"PREPARE claiming AS {sql}")
        marks = ", ".join(["%s"] * len(values))
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE claiming({marks})", values)
        plan = cursor.fetchall()[0][0][0]["Plan"]
        cursor.execute("DEALLOCATE claiming")
    assert _indexes(plan) == {"tasks_app_task_pkey", "tasks_app_taskrequest_pkey", "tasks_app_client_pkey"}


def _indexes(plan: dict[str, Any]) -> set[str]:
    below = set().union(*[_indexes(child) for child in plan.get("Plans", [])])
    return below | ({plan["Index Name"]} if "Index Name" in plan else set())
