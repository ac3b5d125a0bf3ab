"""What the web process holds on to while many ask it at once."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.live import Live, wait_for

pytestmark = pytest.mark.services

#: The pool of Django's threads; the readers' and writers' connections of the event loop are a few more.
POOL, LOOPS = 8, 8


def test_its_threads_share_a_few_connections_to_the_database(live: Live) -> None:
    port, web = urlsplit(live.database_url).port, psutil.Process(live.stack.pid("web"))
    task_id = live.submit("echo")
    live.ended(task_id)

    def ask(_: int) -> int:
        with httpx.Client(base_url=live.stack.url, timeout=30) as http:
            assert http.get(f"/api/v1/tasks/{task_id}/").status_code == 200
        return _connections(web, port)

    with ThreadPoolExecutor(40) as clients:
        counts = list(clients.map(ask, range(400)))
    assert 0 < max(counts) <= POOL + LOOPS


def _connections(process: psutil.Process, port: int | None) -> int:
    return sum(1 for line in process.net_connections("tcp") if line.raddr and line.raddr.port == port)


def test_told_to_stop_it_ends_streams_and_answers_who_waits(live: Live) -> None:
    """A client that reads to a proper end asks again elsewhere, with the last id that it has seen."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage"}
    said = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": "a while"}]}
    options = {"urn:a2a-task-manager:task-options:v1": {"parameters": {"seconds": 60}}}
    body = {**call, "params": {"message": {**said, "metadata": options}}}
    headers = {"A2A-Version": "1.0"}
    with live.http.stream("POST", "/a2a/sleep/", json=body, headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "id: 1"
        live.stack.kill("web", signal.SIGTERM)
        rest = list(lines)  # raises if it was cut off
    task_id = json.loads(next(line for line in rest if line.startswith("data:"))[5:])["result"]["task"]["id"]
    wait_for(lambda: live.stack.pid("web") == 0, what="web is gone")
    live.stack.start_process("web")
    live.stack.wait_ready()
    assert live.task(task_id)["status"] in ("pending", "running")
    live.http.post(f"/api/v1/tasks/{task_id}/cancel/")
