"""The logs of the processes: their last lines, and following them all at once."""

from __future__ import annotations

from pathlib import Path


def tail(file: Path, *, lines: int = 25) -> str:
    """The last lines of a log, indented; says so when it is empty or missing."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size - 64_000))
            text = handle.read().decode(errors="replace")
    except OSError:
        text = ""
    last = text.splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in last) or f"    ({file.name} is empty)"


def set_aside(file: Path) -> None:
    """Keep the log of the run before as `<name>.previous`, so that a log is of one run."""
    if file.exists():
        file.replace(file.with_suffix(".previous"))


class Follower:
    """What was appended to the `.log` files of a folder since the last call, line by line with the process' name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}

    def new_lines(self) -> list[str]:
        """The new lines of all logs; a log that was rotated is read from its start."""
        lines: list[str] = []
        for file in sorted(self.folder.glob("*.log")):
            if file.name != "supervisord.log":
                lines += [f"{file.stem:<14} | {line}" for line in self._appended(file).splitlines()]
        return lines

    def _appended(self, file: Path) -> str:
        start = self._read.get(file, 0)
        size = file.stat().st_size
        with file.open("rb") as handle:
            handle.seek(start if size >= start else 0)
            data = handle.read()
            self._read[file] = handle.tell()
        return data.decode(errors="replace")
