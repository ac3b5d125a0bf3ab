"""A server that speaks as much of MongoDB's wire protocol as bulk writes by id need. No MongoDB can be had here."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HELLO = {
    "ismaster": True,
    "isWritablePrimary": True,
    "helloOk": True,
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "ok": 1,
}


class FakeMongoDB:
    """The documents by ``database.collection`` and id; ``fails``: every write is refused."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[Any, dict[str, Any]]] = {}
        self.fails = False
        self.url = ""

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if "update" not in command:
            return dict(HELLO) if {"hello", "ismaster"} & {name.lower() for name in command} else {"ok": 1}
        if self.fails:
            return {"ok": 0, "errmsg": "not now", "code": 8}
        known = self.documents.setdefault(f"{command['$db']}.{command['update']}", {})
        upserted = []
        for index, each in enumerate(command["updates"]):
            if each["q"]["_id"] not in known:
                upserted.append({"index": index, "_id": each["q"]["_id"]})
            known[each["q"]["_id"]] = each["u"]
        return {"ok": 1, "n": len(command["updates"]), "nModified": 0, "upserted": upserted}


@contextmanager
def fake_mongodb() -> Iterator[FakeMongoDB]:
    """One on loopback."""
    made = FakeMongoDB()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(16):
                length, request_id, _, code = struct.unpack("<iiii", head)
                answer = bson.encode(made.answer(_command(self.rfile.read(length - 16), code)))
                if code == OP_QUERY:
                    body, reply = struct.pack("<iqii", 8, 0, 0, 1) + answer, OP_REPLY
                else:
                    body, reply = struct.pack("<IB", 0, 0) + answer, OP_MSG
                self.wfile.write(struct.pack("<iiii", 16 + len(body), 0, request_id, reply) + body)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.url = f"mongodb://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def _command(content: bytes, code: int) -> dict[str, Any]:
    """The command, with the documents that came beside it."""
    if code == OP_QUERY:
        name_end = content.index(b"\x00", 4)
        return dict(bson.decode(content[name_end + 9 :]))
    command: dict[str, Any] = {}
    at = 4
    while at < len(content):
        kind, (size,) = content[at], struct.unpack_from("<i", content, at + 1)
        section = content[at + 1 : at + 1 + size]
        if kind == 0:
            command |= bson.decode(section)
        else:
            name_end = section.index(b"\x00", 4)
            command[section[4:name_end].decode()] = bson.decode_all(section[name_end + 1 :])
        at += 1 + size
    return command
