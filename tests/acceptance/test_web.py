"""What the web process holds on to while many ask it at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.live import Live

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
