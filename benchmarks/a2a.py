"""Operations of A2A against a2a-sdk's server with its DatabaseTaskStore on one PostgreSQL, and what a key costs."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from benchmarks import ours
from benchmarks.figures import median, verdict
from benchmarks.load import Measured, load
from benchmarks.processes import answers, finished, free_port, process, wait_for
from stack.databases import fresh_database

SUBMIT_CLIENTS, CLIENTS = 32, 16
SUBMIT_RATIO, ECHO_RATIO, GET_RATIO = 40.0, 6.0, 3.0
ECHO_P50_MS, KEY_COST = 30.0, 0.10
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Servers:
    """Where ours and the peer answer, the same of ours that needs a key, and that key."""

    ours: str
    peer: str
    closed: str
    key: str


def main(services: dict[str, str], *, rounds: int = 3) -> None:
    """Prints each round, ours and the peer in turn, and the median ratios."""
    with _servers(services) as servers:
        for url in (servers.ours, servers.peer):
            _measure(url, _submit, clients=1, seconds=1.0)
        submits, echoes, gets, costs, p50_ms = [], [], [], [], []
        for number in range(1, rounds + 1):
            print(f"  round {number}")
            submits.append(_against("submit", servers, _submit, SUBMIT_CLIENTS)[0])
            ratio, mine = _against("blocking echo", servers, _echo, CLIENTS)
            echoes.append(ratio)
            p50_ms.append(mine.p50_ms)
            gets.append(_get(servers))
            costs.append(_cost(servers))
    print(
        f"submit at {SUBMIT_CLIENTS} clients, to a2a-sdk DatabaseTaskStore: {median(submits):.1f}"
        f" (target >= {SUBMIT_RATIO:g}: {verdict(median(submits), SUBMIT_RATIO, at_least=True)})"
    )
    print(
        f"blocking echo at {CLIENTS} clients, to the same: {median(echoes):.1f}"
        f" (target >= {ECHO_RATIO:g}: {verdict(median(echoes), ECHO_RATIO, at_least=True)}),"
        f" p50 {median(p50_ms):.1f} ms (target <= {ECHO_P50_MS:g}: {verdict(median(p50_ms), ECHO_P50_MS)})"
    )
    print(
        f"GetTask at {CLIENTS} clients, to the same: {median(gets):.1f}"
        f" (target >= {GET_RATIO:g}: {verdict(median(gets), GET_RATIO, at_least=True)})"
    )
    print(
        f"a submit with an API key costs {100 * median(costs):.1f} % more than one without"
        f" (target <= {100 * KEY_COST:g} %: {verdict(median(costs), KEY_COST)})"
    )


@contextmanager
def _servers(services: dict[str, str]) -> Iterator[Servers]:
    env = ours.environment(services, "a2a")
    closed_env = {**env, "A2A_OPEN_MODE": "0", "A2A_TLS": "0", "A2A_SECRET_KEY": uuid4().hex * 2}
    finished(sys.executable, "-m", "benchmarks.key", env=env)
    key = ours.one(env, "SELECT name FROM tasks_app_client WHERE name LIKE 'a2a\\_%%'")
    peer_env = {"DATABASE_URL": fresh_database(services["DATABASE_URL"], "a2a_bench_sdk")}
    with ExitStack() as stack:
        ports = [free_port() for _ in range(3)]
        stack.enter_context(ours.web(env, ports[0]))
        stack.enter_context(ours.web(closed_env, ports[1]))
        peer = ["uvicorn", "benchmarks.peers.sdk_server:application", "--factory", "--port", str(ports[2])]
        stack.enter_context(process(*peer, "--no-access-log", "--log-level", "warning", env=peer_env))
        stack.enter_context(ours.dispatcher(env))
        stack.enter_context(ours.worker(env, "io", 64))
        wait_for(lambda: all(answers(port) for port in ports))
        ours.wait_online(env, "io")
        mine, closed = (f"http://127.0.0.1:{port}/a2a/echo/" for port in ports[:2])
        yield Servers(mine, f"http://127.0.0.1:{ports[2]}/", closed, key)


def _against(name: str, servers: Servers, body: Callable[[str], bytes], clients: int) -> tuple[float, Measured]:
    mine, peer = (_measure(url, body, clients=clients) for url in (servers.ours, servers.peer))
    print(f"    {name}: ours {_text(mine)}; a2a-sdk {_text(peer)}; ratio {mine.rate / peer.rate:.1f}")
    return mine.rate / peer.rate, mine


def _get(servers: Servers) -> float:
    """One completed echo task of each, read again and again."""
    rates = []
    for url in (servers.ours, servers.peer):
        sent = httpx.post(url, content=_echo(uuid4().hex), headers=_headers(), timeout=30).json()
        body = _call("GetTask", {"id": sent["result"]["task"]["id"]})
        rates.append(_measure(url, lambda _, body=body: body, clients=CLIENTS))  # type: ignore[misc]
    print(f"    GetTask: ours {_text(rates[0])}; a2a-sdk {_text(rates[1])}; ratio {rates[0].rate / rates[1].rate:.1f}")
    return rates[0].rate / rates[1].rate


def _cost(servers: Servers) -> float:
    """How much longer a submit takes that brings a key, as a share."""
    free = _measure(servers.ours, _submit, clients=SUBMIT_CLIENTS)
    keyed = _measure(servers.closed, _submit, clients=SUBMIT_CLIENTS, key=servers.key)
    print(f"    submit in the open mode {_text(free)}; with a key {_text(keyed)}")
    return free.rate / keyed.rate - 1.0


def _measure(
    url: str, body: Callable[[str], bytes], *, clients: int, seconds: float = SECONDS, key: str = ""
) -> Measured:
    prefix, numbers = uuid4().hex, itertools.count()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    made = load(url, lambda: body(f"{prefix}-{next(numbers)}"), clients=clients, seconds=seconds, headers=headers)
    return asyncio.run(made)


def _submit(message_id: str) -> bytes:
    return _send(message_id, {"returnImmediately": True})


def _echo(message_id: str) -> bytes:
    return _send(message_id, {})


def _send(message_id: str, configuration: dict[str, Any]) -> bytes:
    message = {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    return _call("SendMessage", {"message": message, "configuration": configuration})


def _call(method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json", "A2A-Version": "1.0"}


def _text(measured: Measured) -> str:
    failed = f", {measured.failed} FAILED" if measured.failed else ""
    return f"{measured.rate:.0f}/s (p50 {measured.p50_ms:.1f} ms, p99 {measured.p99_ms:.1f} ms{failed})"
