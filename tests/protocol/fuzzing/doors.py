"""Asks requests in this process. Of a stream only the first event is read: most of these tasks never end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid4

import grpc
import orjson
from django.db import connection

from tasks_app.engine.core import Statement, Steps
from tasks_app.engine.prune import DELETE
from tasks_app.models import Task
from tasks_app.web import web
from tests.protocol.doors import LOOPBACK, Doors, message, rows
from tests.protocol.fuzzing.requests import Http, Request, Rpc

#: Longer than anything takes here; a request that takes as long hangs.
HANGS_S = 20
EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: HTTP's status, headers and bytes, or gRPC's status, trailers and bytes (none if refused)."""

    status: Any
    headers: dict[str, Any]
    body: bytes
    text: str = ""

    @property
    def data(self) -> Any:
        """The JSON of an HTTP answer, or of a stream's first event. Raises ValueError."""
        if self.headers.get("content-type", "").startswith(EVENTS):
            line = next(line for line in self.body.split(b"\n") if line.startswith(b"data: "))
            return orjson.loads(line.removeprefix(b"data: "))
        return orjson.loads(self.body)


class Asker:
    """Both servers on one loop, for as long as the tests of a module."""

    def __init__(self) -> None:
        self.doors = Doors()
        self._serving: grpc.aio.Server | None = None
        self._channel: grpc.aio.Channel | None = None

    def close(self) -> None:
        self.doors.ask(lambda _: self._stop())
        self.doors.close()

    def ask(self, request: Request) -> Answer:
        """Its answer. Raises TimeoutError if there is none."""
        call = self._http(request) if isinstance(request, Http) else self._grpc(request)

        async def within(_: Any) -> Answer:
            async with asyncio.timeout(HANGS_S):
                return await call

        answer: Answer = self.doors.ask(within)
        return answer

    def task(self, agent: str = "echo") -> str:
        """The id of a new task, which waits."""
        answer = self.doors.call(
            "SendMessage", {"message": message(), "configuration": {"returnImmediately": True}}, agent=agent
        )
        assert "result" in answer, answer
        return str(answer["result"]["task"]["id"])

    def ended(self, agent: str = "echo") -> str:
        """The id of a new task that was cancelled."""
        task_id = self.task(agent)
        self.doors.call("CancelTask", {"id": task_id}, agent=agent)
        return task_id

    def ids(self) -> dict[str, str]:
        """What the names in requests stand for, all of it new."""
        return {"$task": self.task(), "$ended": self.ended(), "$new": str(uuid4())}

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Leaves no task behind, so that what one example made does not change the next."""
        yield
        task_ids = list(Task.objects.values_list("id", flat=True))
        self.doors.ask(lambda _: web().read(_delete, task_ids))

    async def _http(self, request: Http) -> Answer:
        """By ASGI, as uvicorn would hand it over: a client of HTTP would mend what is wrong in it."""
        raw, _, query = request.path.partition("?")
        scope = {
            **{
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": request.verb,
                "root_path": "",
            },
            **{
                "scheme": "http",
                "path": unquote(raw),
                "raw_path": raw.encode(),
                "query_string": query.encode("latin-1"),
            },
            "headers": [
                (name.encode(), value.encode("latin-1"))
                for name, value in ({"host": "localhost"} | dict(request.headers)).items()
            ],
            **{"client": (LOOPBACK, 5000), "server": (LOOPBACK, 8000), "state": {}},
        }
        coming = [{"type": "http.request", "body": request.body.encode("latin-1"), "more_body": False}]
        sent: list[Any] = []
        enough = asyncio.Event()

        async def receive() -> Any:
            if coming:
                return coming.pop()
            await asyncio.Event().wait()

        async def send(said: Any) -> None:
            sent.append(said)
            if said.get("body") and said.get("more_body") and headers().get("content-type", "").startswith(EVENTS):
                enough.set()

        def headers() -> dict[str, str]:
            return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}

        running = asyncio.ensure_future(self.doors.application(scope, receive, send))
        first = asyncio.ensure_future(enough.wait())
        await asyncio.wait((running, first), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
        first.cancel()
        with suppress(asyncio.CancelledError):
            await running
        body = b"".join(said.get("body", b"") for said in sent[1:])
        return Answer(sent[0]["status"], headers(), body)

    async def _grpc(self, request: Rpc) -> Answer:
        channel = self._channel or await self._start()
        metadata = tuple(request.headers.items())
        try:
            if not request.streams:
                body = await channel.unary_unary(request.method)(request.data, metadata=metadata, timeout=HANGS_S)
                return Answer(grpc.StatusCode.OK, {}, body)
            call = channel.unary_stream(request.method)(request.data, metadata=metadata, timeout=HANGS_S)
            body = await call.read()
            call.cancel()
            return Answer(grpc.StatusCode.OK, {}, b"" if body is grpc.aio.EOF else body)
        except grpc.aio.AioRpcError as error:
            return Answer(error.code(), dict(error.trailing_metadata() or ()), b"", error.details() or "")

    async def _start(self) -> grpc.aio.Channel:
        from tasks_app.a2a.grpc import server

        self._serving = server()
        port = self._serving.add_insecure_port(f"{LOOPBACK}:0")
        await self._serving.start()
        self._channel = grpc.aio.insecure_channel(f"{LOOPBACK}:{port}")
        return self._channel

    async def _stop(self) -> None:
        if self._channel is not None and self._serving is not None:
            await self._channel.close()
            await self._serving.stop(None)


def counted() -> tuple[int, ...]:
    """How many rows of a task there are, of every kind that a request makes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM tasks_app_pushconfig), (SELECT count(*) FROM tasks_app_inboxmessage)"
        )
        return (*rows(), *cursor.fetchone())


def _delete(task_ids: list[UUID]) -> Steps[None]:
    yield Statement(DELETE, {"task_id": task_ids})
