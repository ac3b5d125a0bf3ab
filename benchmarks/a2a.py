"""Operations of A2A against a2a-sdk's server with its DatabaseTaskStore on one PostgreSQL, and what a key costs."""

from __future__ import annotations

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
    """Addresses: ours that only stores, the same that needs a key, and that key; ours that also runs; and the peer."""

    stores: str
    closed: str
    key: str
    runs: str
    peer: str


def main(services: dict[str, str], *, rounds: int = 3) -> None:
    """Prints each round, ours and the peer in turn, and the median ratios."""
    submits, costs, echoes, gets, p50_ms = [], [], [], [], []
    # Two of ours: one stores and nobody runs its tasks, so that a backlog is in no other measurement's way.
    stores, runs = ours.environment(services, "a2a_stores"), ours.environment(services, "a2a_runs")
    with _servers(services, stores, runs) as servers:
        for url in (servers.stores, servers.runs, servers.peer):
            _measure(url, _submit, clients=1, seconds=1.0)
        for number in range(1, rounds + 1):
            print(f"  round {number}")
            submits.append(_against("submit", servers.stores, servers.peer, _submit, SUBMIT_CLIENTS)[0])
            costs.append(_cost(servers))
        with ours.dispatcher(runs), ours.worker(runs, "io", 64):
            ours.wait_online(runs, "io")
            _measure(servers.runs, _echo, clients=1, seconds=2.0)
            for number in range(1, rounds + 1):
                print(f"  round {number}")
                ratio, mine = _against("blocking echo", servers.runs, servers.peer, _echo, CLIENTS)
                echoes.append(ratio)
                p50_ms.append(mine.p50_ms)
                gets.append(_get(servers))
    _print(
        f"submit at {SUBMIT_CLIENTS} clients, to a2a-sdk DatabaseTaskStore: {median(submits):.1f}",
        (median(submits), SUBMIT_RATIO),
    )
    _print(f"blocking echo at {CLIENTS} clients, to the same: {median(echoes):.1f}", (median(echoes), ECHO_RATIO))
    p50 = median(p50_ms)
    print(f"blocking echo, p50: {p50:.1f} ms (target <= {ECHO_P50_MS:g}: {verdict(p50, ECHO_P50_MS)})")
    _print(f"GetTask at {CLIENTS} clients, to the same: {median(gets):.1f}", (median(gets), GET_RATIO))
    cost = median(costs)
    print(f"a key's cost for a submit: {100 * cost:.1f} % (target <= {100 * KEY_COST:g} %: {verdict(cost, KEY_COST)})")


def _print(text: str, result: tuple[float, float]) -> None:
    value, target = result
    print(f"{text} (target >= {target:g}: {verdict(value, target, at_least=True)})")


@contextmanager
def _servers(services: dict[str, str], stores: dict[str, str], runs: dict[str, str]) -> Iterator[Servers]:
    closed = {**stores, "A2A_OPEN_MODE": "0", "A2A_TLS": "0", "A2A_SECRET_KEY": uuid4().hex * 2}
    finished(sys.executable, "-m", "benchmarks.key", env=stores)
    key = ours.one(stores, "SELECT name FROM tasks_app_client WHERE name LIKE 'a2a\\_%%'")
    peer = {"DATABASE_URL": fresh_database(services["DATABASE_URL"], "a2a_bench_sdk")}
    app = ["uvicorn", "benchmarks.peers.sdk_server:application", "--factory", "--no-access-log"]
    ports = [free_port() for _ in range(4)]
    with ExitStack() as stack:
        for env, port in zip((stores, closed, runs), ports[:3], strict=True):
            stack.enter_context(ours.web(env, port))
        stack.enter_context(process(*app, "--log-level", "warning", "--port", str(ports[3]), env=peer))
        wait_for(lambda: all(answers(port) for port in ports))
        urls = [f"http://127.0.0.1:{port}/a2a/echo/" for port in ports[:3]]
        yield Servers(stores=urls[0], closed=urls[1], key=key, runs=urls[2], peer=f"http://127.0.0.1:{ports[3]}/")


def _against(
    name: str, mine_url: str, peer_url: str, body: Callable[[str], bytes], clients: int
) -> tuple[float, Measured]:
    mine, peer = (_measure(url, body, clients=clients) for url in (mine_url, peer_url))
    print(f"    {name}: ours {_text(mine)}; a2a-sdk {_text(peer)}; ratio {mine.rate / peer.rate:.1f}")
    return mine.rate / peer.rate, mine


def _get(servers: Servers) -> float:
    """One completed echo task of each, read again and again."""
    rates = []
    for url in (servers.runs, servers.peer):
        sent = httpx.post(url, content=_echo(uuid4().hex), headers=_headers(), timeout=30).json()
        body = _call("GetTask", {"id": sent["result"]["task"]["id"]})
        rates.append(_measure(url, lambda _, body=body: body, clients=CLIENTS))  # type: ignore[misc]
    print(f"    GetTask: ours {_text(rates[0])}; a2a-sdk {_text(rates[1])}; ratio {rates[0].rate / rates[1].rate:.1f}")
    return rates[0].rate / rates[1].rate


def _cost(servers: Servers) -> float:
    """How much longer a submit takes that brings a key, as a share."""
    free = _measure(servers.stores, _submit, clients=SUBMIT_CLIENTS)
    keyed = _measure(servers.closed, _submit, clients=SUBMIT_CLIENTS, key=servers.key)
    print(f"    submit in the open mode {_text(free)}; with a key {_text(keyed)}")
    return free.rate / keyed.rate - 1.0


def _measure(
    url: str, body: Callable[[str], bytes], *, clients: int, seconds: float = SECONDS, key: str = ""
) -> Measured:
    prefix, numbers = uuid4().hex, itertools.count()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return load(url, lambda: body(f"{prefix}-{next(numbers)}"), clients=clients, seconds=seconds, headers=headers)


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
