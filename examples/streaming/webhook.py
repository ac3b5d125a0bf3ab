"""A receiver of push notifications: verifies their Standard Webhooks signatures and passes their events on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from standardwebhooks import Webhook, WebhookVerificationError

BODY_MAX_BYTES = 16 * 1024 * 1024


@contextmanager
def receiver(url: str, secret: str, take: Callable[[int, Any], None]) -> Iterator[None]:
    """Listens at the URL's host and port, and calls ``take`` with the number at the end of a path and the event.

    ``take`` runs on the request's thread. The sender goes on to the next event when it has returned, and sends the
    event again if it raises. Raises OSError where nobody can listen, ValueError for a secret that is none.
    """
    address = urlsplit(url)
    server = ThreadingHTTPServer((address.hostname or "", address.port or 80), _handler(Webhook(secret), take))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _handler(secret: Webhook, take: Callable[[int, Any], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), BODY_MAX_BYTES))
            try:
                event = secret.verify(body, dict(self.headers))
                number = int(self.path.rpartition("/")[2])
            except (WebhookVerificationError, ValueError):
                self.log_error("refused what is not signed with the secret, or not for here")
                self.send_error(401)
                return
            take(number, event)
            self.send_response(204)
            self.end_headers()

        def log_request(self, *args: object) -> None:
            """Says nothing about what was taken."""

    return Handler
