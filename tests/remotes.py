"""A plain server of the a2a-sdk, as its own process: what a remote agent is to the tests.

Each executor of ``tests/executors.py`` is at a path of its own, offered in several ways.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import uvicorn
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, a2a_pb2_grpc
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from stack.ports import find_free
from tests import executors
from tests.live import wait_for

#: What requests to the agent «guarded» must bring.
TOKEN = "a-secret"
Scope = MutableMapping[str, Any]


class Remotes:
    """The server's process, from outside."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._port = port
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "tests.remotes", str(self._port)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._answers, timeout_s=30, what="the remote agents' server answers")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}updating/.well-known/agent-card.json").status_code in (200, 401)
        except httpx.TransportError:
            return False


@contextmanager
def remotes(port: int, log: Path) -> Iterator[Remotes]:
    """Runs the server while the body runs."""
    made = Remotes(port, log)
    made.start()
    try:
        yield made
    finally:
        made.kill()


def _card(name: str, url: str, binding: str, version: str, *, streams: bool) -> AgentCard:
    return AgentCard(
        name=name,
        description=name,
        version="1",
        supported_interfaces=[AgentInterface(url=url, protocol_binding=binding, protocol_version=version)],
        capabilities=AgentCapabilities(streaming=streams),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id=name, name=name, description=name, tags=["test"])],
    )


def _handler(executor: AgentExecutor, card: AgentCard) -> Any:
    return DefaultRequestHandler(agent_executor=executor, task_store=InMemoryTaskStore(), agent_card=card)


def _agent(base: str, name: str, executor: AgentExecutor, *, binding: str = "JSONRPC", **options: Any) -> Mount:
    version, url = options.get("version", "1.0"), options.get("host", base) + name
    url = url if binding == "HTTP+JSON" else f"{url}/"
    card = _card(name, url, binding, version, streams=options.get("streams", True))
    handler = _handler(executor, card)
    old = version == "0.3"
    routes: list[Any] = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=old)]
    if binding == "HTTP+JSON":
        routes = [*create_agent_card_routes(card), *create_rest_routes(handler, enable_v0_3_compat=old)]
    return Mount(f"/{name}", routes=routes)


def application(base: str, grpc_address: str) -> Any:
    """``base`` is the server's address, with a slash at its end, ``grpc_address`` is a host with a port."""
    elsewhere = base.replace("127.0.0.1", "localhost")
    updating, busy = executors.Updating(), [429, 503]
    mounts = [
        _agent(base, "updating", updating),
        _agent(base, "updating-rest", updating, binding="HTTP+JSON"),
        _agent(base, "updating-old", updating, version="0.3"),
        _agent(base, "updating-polled", updating, streams=False),
        _agent(base, "updating-old-polled", updating, version="0.3", streams=False),
        _agent(base, "elsewhere", executors.HelloWorld(), host=elsewhere),
        _agent(base, "hello", executors.HelloWorld()),
        _agent(base, "guarded", executors.HelloWorld()),
        _agent(base, "snapshot", executors.Snapshot()),
        _agent(base, "talks", executors.Talks()),
        _agent(base, "talks-polled", executors.Talks(), streams=False),
        _agent(base, "slow", executors.Slow()),
        _agent(base, "slow-polled", executors.Slow(), streams=False),
        _agent(base, "busy", executors.HelloWorld()),
    ]

    async def moved(request: Any) -> Response:
        return RedirectResponse(f"{elsewhere}hello/.well-known/agent-card.json")

    grpc_card = _card("updating-grpc", grpc_address, "GRPC", "1.0", streams=True)
    mounts.append(Mount("/updating-grpc", routes=create_agent_card_routes(grpc_card)))

    @asynccontextmanager
    async def over_grpc(app: Any) -> AsyncIterator[None]:
        server = grpc.aio.server()
        add: Any = a2a_pb2_grpc.add_A2AServiceServicer_to_server
        add(GrpcHandler(_handler(updating, grpc_card)), server)
        server.add_insecure_port(grpc_address)
        await server.start()
        yield
        await server.stop(None)

    inner = Starlette(lifespan=over_grpc, routes=[Route("/moved/.well-known/agent-card.json", moved), *mounts])

    async def answer(scope: Scope, receive: Any, send: Any) -> None:
        path, headers = scope.get("path", ""), dict(scope.get("headers", ()))
        app: Any = inner
        if path.startswith("/guarded/") and headers.get(b"authorization") != f"Bearer {TOKEN}".encode():
            app = JSONResponse({"error": "who are you?"}, status_code=401)
        elif path == "/busy/" and busy:
            app = JSONResponse({}, status_code=busy.pop(0), headers={"Retry-After": "0"})
        await app(scope, receive, send)

    return answer


if __name__ == "__main__":
    port = int(sys.argv[1])
    app = application(f"http://127.0.0.1:{port}/", f"127.0.0.1:{find_free()}")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
