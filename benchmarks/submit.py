"""Durable submits a second through the JSON-RPC door, against a2a-sdk's DatabaseTaskStore on the same PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import ExitStack
from uuid import uuid4

from benchmarks.load import Measured, load
from benchmarks.processes import answers, free_port, process, wait_for
from stack.databases import fresh_database

CLIENTS = 32
SECONDS = 6.0
ROUNDS = 3


def main(services: dict[str, str]) -> None:
    """Prints each round's rates and the median ratio."""
    ours_env = {
        **services,
        "DATABASE_URL": fresh_database(services["DATABASE_URL"], "a2a_bench_submit"),
        "A2A_OPEN_MODE": "1",
        "A2A_DB_POOL": "1",
    }
    peer_env = {"DATABASE_URL": fresh_database(services["DATABASE_URL"], "a2a_bench_sdk")}
    with process("python", "manage.py", "migrate", "--no-input", env=ours_env) as migrate:
        wait_for(lambda: migrate.poll() is not None)
    with ExitStack() as stack:
        ours, peer = free_port(), free_port()
        stack.enter_context(process(*_uvicorn("a2a_project.asgi:application", ours), env=ours_env))
        stack.enter_context(
            process(*_uvicorn("benchmarks.peers.sdk_server:application", peer), "--factory", env=peer_env)
        )
        wait_for(lambda: answers(ours) and answers(peer))
        _measure(f"http://127.0.0.1:{ours}/a2a/echo/", 1, 1.0)
        _measure(f"http://127.0.0.1:{peer}/", 1, 1.0)
        ratios = []
        for number in range(1, ROUNDS + 1):
            a = _measure(f"http://127.0.0.1:{ours}/a2a/echo/", CLIENTS, SECONDS)
            b = _measure(f"http://127.0.0.1:{peer}/", CLIENTS, SECONDS)
            ratios.append(a.rate / b.rate)
            print(f"  round {number}: ours {_text(a)}; a2a-sdk {_text(b)}; ratio {ratios[-1]:.1f}")
        one = _measure(f"http://127.0.0.1:{ours}/a2a/echo/", 1, 3.0)
        print(f"  one client: ours {_text(one)}")
        print(
            f"submit at {CLIENTS} clients, median ratio to a2a-sdk DatabaseTaskStore: {sorted(ratios)[ROUNDS // 2]:.1f}"
        )


def _measure(url: str, clients: int, seconds: float) -> Measured:
    prefix, numbers = uuid4().hex, itertools.count()

    def body() -> bytes:
        message = {"messageId": f"{prefix}-{next(numbers)}", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
        params = {"message": message, "configuration": {"returnImmediately": True}}
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}).encode()

    return asyncio.run(load(url, body, clients=clients, seconds=seconds))


def _text(measured: Measured) -> str:
    failed = f", {measured.failed} FAILED" if measured.failed else ""
    return f"{measured.rate:.0f}/s (p50 {measured.p50_ms:.1f} ms, p99 {measured.p99_ms:.1f} ms{failed})"


def _uvicorn(app: str, port: int) -> list[str]:
    return ["uvicorn", app, "--port", str(port), "--no-access-log", "--log-level", "warning"]
