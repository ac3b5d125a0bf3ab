"""Scratch folders: one for each attempt, made when it is first asked for, removed when the attempt has ended.

They lie in a folder of the worker's own below the system's folder for temporary files (``TMPDIR``). The worker holds a
lock on it; a folder that nobody has locked was left by a worker that was killed, and the next one to start removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from uuid import UUID

PREFIX = "a2a-scratch-"
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own


class Scratch:
    """The folder of one attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self) -> Path:
        """The folder, which exists from now on."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        return self.path

    def used_bytes(self) -> int:
        """What its files take on the disk."""
        return _used_bytes(self.path)

    def remove(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path, ignore_errors=True)


class ScratchRoot:
    """The folder of one worker. Made in its parent process; its children use it as it is."""

    def __init__(self) -> None:
        self.path, self._lock_fd = _locked_folder()

    def of(self, attempt_id: UUID) -> Scratch:
        return Scratch(self.path / attempt_id.hex)

    def remove(self) -> None:
        """When the worker stops."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock_fd)


def remove_stale() -> None:
    """Removes the folders of workers that are no more, of this user only."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)


def _locked_folder() -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock; another, if somebody took it for a stale one meanwhile."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            continue
        if path.exists():
            return path, fd
        os.close(fd)


def _used_bytes(folder: Path) -> int:
    used_bytes = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    used_bytes += _used_bytes(Path(entry.path))
                else:
                    used_bytes += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    return used_bytes
