"""HTTP servers for tests, webhooks and others: real, on loopback; they record what they are sent, answer as told."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: The status to answer with, headers, and maybe a body.
Reply = tuple[int, dict[str, str]] | tuple[int, dict[str, str], bytes]
TAKEN: Reply = (200, {})


@dataclass(frozen=True)
class Request:
    """What was sent; header names in small letters."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def generation(self) -> int:
        """Of the event in the body."""
        (event,) = self.json.values()
        return int(event["metadata"]["generation"])

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """A webhook. ``reply`` decides on each request, after it was recorded."""

    url: str = ""
    port: int = 0
    reply: Callable[[Request], Reply] = lambda request: TAKEN
    requests: list[Request] = field(default_factory=list)

    @property
    def generations(self) -> list[int]:
        return [request.generation for request in self.requests]


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A webhook at an address of its own."""
    made = Receiver()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, body)
            with lock:
                made.requests.append(request)
            status, more, *content = made.reply(request)
            self.send_response(status)
            for name, value in {"Content-Length": str(sum(map(len, content))), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"".join(content))

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            """Quietly."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    made.port = server.server_address[1]
    made.url = f"http{'s' if tls else ''}://127.0.0.1:{made.port}/hook"
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
