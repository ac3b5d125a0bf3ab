"""Both doors in this process, over ASGI and without a socket: what the protocol tests ask, and what is left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
from django.db import connection

from tasks_app.models import Task, TaskEvent, TaskRequest
from tasks_app.web import Web, close_web, web
from tests.live import wait_for

TASKS = "/api/v1/tasks/"
EXTENSION = "urn:a2a-task-manager:task-options:v1"
LOOPBACK = "127.0.0.1"

Ask = Callable[[httpx.AsyncClient], Awaitable[Any]]


def _application() -> Any:
    from a2a_project.asgi import application

    return application


class Doors:
    """The web application and an event loop for it. Tests stay synchronous, so that they may look at rows between."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.application = _application()
        self._threads: list[Thread] = []
        self._web: Web | None = None

    def close(self) -> None:
        self._runner.run(close_web())
        self._runner.close()
        for thread in self._threads:
            thread.join()

    def once_followed(self, task_id: UUID, call: Callable[[], Any]) -> None:
        """Calls it from a thread as soon as a request follows the task; :meth:`close` waits for it."""

        def within() -> None:
            try:
                wait_for(
                    lambda: self._web is not None and self._web.hub.follows(task_id), what=f"somebody follows {task_id}"
                )
                call()
            finally:
                connection.close()

        self._threads.append(Thread(target=within))
        self._threads[-1].start()

    def ask(self, ask: Ask, *, peer: str = LOOPBACK) -> Any:
        """What the coroutine returns, given a client that comes from this address."""

        async def within() -> Any:
            self._web = web()
            transport = httpx.ASGITransport(app=self.application, client=(peer, 5000))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as client:
                return await ask(client)

        return self._runner.run(within())

    def send(self, method: str, path: str, *, peer: str = LOOPBACK, **options: Any) -> httpx.Response:
        """One request and its whole answer."""
        return self.ask(lambda client: client.request(method, path, **options), peer=peer)  # type: ignore[no-any-return]

    def together(self, requests: Iterable[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Many requests at once; their answers in order."""

        async def all_of(client: httpx.AsyncClient) -> list[httpx.Response]:
            asked = [client.request(method, path, **options) for method, path, options in requests]
            return list(await asyncio.gather(*asked))

        return list(self.ask(all_of))

    # The REST door --------------------------------------------------------------------------------------------------

    def submit(self, body: Any, **options: Any) -> httpx.Response:
        return self.send("POST", TASKS, **content(body), **options)

    # The JSON-RPC door ----------------------------------------------------------------------------------------------

    def call(self, method: str, params: Any, *, agent: str = "echo", **options: Any) -> dict[str, Any]:
        """The JSON-RPC answer to a call."""
        return self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, agent=agent, **options)

    def post(self, body: Any, *, agent: str = "echo", **options: Any) -> dict[str, Any]:
        """The JSON-RPC answer to any body."""
        reply = self.send("POST", f"/a2a/{agent}/", **content(body, **options.pop("headers", {})), **options)
        assert reply.status_code in (200, 413, 429), reply.text
        answer = reply.json()
        assert answer["jsonrpc"] == "2.0"
        assert ("result" in answer) != ("error" in answer)
        return dict(answer)


def each(*values: Any) -> tuple[Any, ...]:
    """The values, of any types: for a table of cases."""
    return values


def content(body: Any, **headers: str) -> dict[str, Any]:
    """A request's body, as JSON unless it is bytes already."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {"content": data, "headers": {"content-type": "application/json", "a2a-version": "1.0", **headers}}


def rest_body(**changes: Any) -> dict[str, Any]:
    """A valid submission over REST, with changes."""
    return {"agent": "echo", "message": message(), **changes}


def message(**changes: Any) -> dict[str, Any]:
    """A valid message, with changes; what is changed to ``...`` is left out."""
    whole = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": "hello"}], **changes}
    return {name: value for name, value in whole.items() if value is not ...}


def with_options(**options: Any) -> dict[str, Any]:
    """The params of a SendMessage whose message carries these options under our extension."""
    return {"message": message(metadata={EXTENSION: options}), "configuration": {"returnImmediately": True}}


def nested(levels: int) -> dict[str, Any]:
    """An object in an object, so many levels deep."""
    data: dict[str, Any] = {}
    for _ in range(levels - 1):
        data = {"a": data}
    return data


def named_fields(answer: dict[str, Any]) -> set[str]:
    """The fields that a JSON-RPC error names (A2A 1.0, section 9.5)."""
    details = answer["error"]["data"]
    violations = [item for detail in details for item in detail.get("fieldViolations", [])]
    return {item["field"] for item in violations} | {detail.get("metadata", {}).get("field") for detail in details}


def rows() -> tuple[int, int, int]:
    return Task.objects.count(), TaskRequest.objects.count(), TaskEvent.objects.count()


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fails if the body left a row of a task behind."""
    before = rows()
    yield
    assert rows() == before
