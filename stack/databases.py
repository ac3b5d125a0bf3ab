"""Databases of their own for tests and benchmarks, beside the one that a server's address names."""

from __future__ import annotations

import psycopg


def fresh_database(url: str, name: str) -> str:
    """Makes an empty database of this name on the server of ``url``; its address."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        conn.execute(f'CREATE DATABASE "{name}"')
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def database_name(url: str) -> str:
    """The name of the database that the address means."""
    return url.partition("?")[0].rpartition("/")[2]
