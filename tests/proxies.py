"""A proxy for tests that breaks connections where streams are least prepared for it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: From the head of an answer that is a stream to the id of its second event, whose data are still to come.
INSIDE_THE_SECOND_EVENT = re.compile(rb"text/event-stream.*?\nid: (\d+)\n.*?\nid: \d+\n", re.DOTALL)
ASKS_AFTER = re.compile(rb"\r\nlast-event-id: (\d+)\r\n", re.IGNORECASE)


class CuttingProxy:
    """Passes on what comes in, but cuts the first ``cuts`` streams inside their second event.

    ``cut_after`` are the ids of the last whole events of these, ``asked_after`` those after which they were to go on.
    """

    def __init__(self, upstream_port: int, cuts: int) -> None:
        self.cut_after: list[int] = []
        self.asked_after: list[int] = []
        self._cuts = cuts
        self._upstream_port = upstream_port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """Until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream_port))
                for target, ends in ((self._up, (client, server)), (self._down, (server, client))):
                    threading.Thread(target=target, args=ends, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                self.asked_after += map(int, ASKS_AFTER.findall(data))
                server.sendall(data)
        _break(client, server)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        seen, sent = b"", 0
        with suppress(OSError):
            while data := server.recv(65536):
                seen += data
                found = INSIDE_THE_SECOND_EVENT.search(seen)
                if found and self._may_cut(after=int(found[1])):
                    client.sendall(seen[sent : found.end()])
                    break
                client.sendall(seen[sent:])
                sent = len(seen)
        _break(client, server)

    def _may_cut(self, *, after: int) -> bool:
        with self._lock:
            if len(self.cut_after) == self._cuts:
                return False
            self.cut_after.append(after)
            return True


def _break(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def cutting_proxy(upstream_port: int, *, cuts: int) -> Iterator[CuttingProxy]:
    """A proxy before a server on loopback."""
    made = CuttingProxy(upstream_port, cuts)
    threading.Thread(target=made.serve, daemon=True).start()
    try:
        yield made
    finally:
        made.close()
