"""What the files of the storages share: a length that is known, and a place."""

from __future__ import annotations

import io


class Seekable(io.RawIOBase):
    """A file that is read from any place. Whoever inherits from it reads, from ``_at`` on, and moves that on."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        if at < 0:
            raise ValueError("before the beginning")
        self._at = at
        return at
