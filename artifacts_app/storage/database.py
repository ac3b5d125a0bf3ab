"""The database: for what all machines share when they share nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg
from django.core.files.base import File
from django.core.files.storage import Storage
from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Length

from artifacts_app.models import BlobPiece
from artifacts_app.storage.seekable import Seekable

#: So much stands in a row.
PIECE_BYTES = 1024 * 1024

INSERT = "INSERT INTO artifacts_app_blobpiece (name, number, content) VALUES ($1, $2, $3)"
READ = "SELECT substr(content, $3::int, $4::int) FROM artifacts_app_blobpiece WHERE name = $1 AND number = $2"


class DatabaseStorage(Storage):
    """Rows of a MiB each, committed one by one. Nobody may save under a name twice."""

    def _save(self, name: str, content: Any) -> str:
        for number in count():
            piece = content.read(PIECE_BYTES)
            if not piece and number:
                break
            with _cursor() as cursor:
                cursor.execute(INSERT, [name, number, piece])
        return name

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        pieces: Any = _Pieces(name, self.size(name))
        return File(pieces, name)

    def delete(self, name: str) -> None:
        BlobPiece.objects.filter(name=name).delete()

    def exists(self, name: str) -> bool:
        return BlobPiece.objects.filter(name=name, number=0).exists()

    def size(self, name: str) -> int:
        found = BlobPiece.objects.filter(name=name).aggregate(size=Sum(Length("content")))["size"]
        if found is None:
            raise FileNotFoundError(f"the database holds no piece of {name}")
        return int(found)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        return [], list(BlobPiece.objects.values_list("name", flat=True).distinct())


class _Pieces(Seekable):
    """Reads what it is asked for of a row at a time; all rows but the last are full."""

    def __init__(self, name: str, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._name = name

    def readinto(self, buffer: Any) -> int:
        number, start = divmod(self._at, PIECE_BYTES)
        with _cursor() as cursor:
            row = cursor.execute(READ, [self._name, number, start + 1, len(buffer)], binary=True).fetchone()
        piece = row[0] if row else b""
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


@contextmanager
def _cursor() -> Iterator[psycopg.RawCursor[Any]]:
    """One on Django's connection of this thread, that sends what it is given beside the statement, as it is.

    Django's own write it into the statement, in hexadecimal; and since statements are prepared here, psycopg keeps the
    last hundred of each connection (``prepared_max``): 200 MB of pieces.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.RawCursor(connection.connection) as cursor:
        yield cursor
