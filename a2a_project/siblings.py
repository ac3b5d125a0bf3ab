"""``uvicorn --workers N``: web processes behind one port, of which a scrape reaches any. They count in one folder.

Before anything imports the Prometheus client, which decides then whether to keep its numbers in memory or in files.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "a2a-metrics"


def shared_folder() -> Path | None:
    """The folder that the workers of this process's uvicorn share; None for a process that has its port to itself."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return None
    import psutil  # type: ignore[import-untyped]  # one process of a port needs it not

    room = Path(tempfile.gettempdir())
    for left in room.glob(f"{PREFIX}-{os.getuid()}-*"):
        if not psutil.pid_exists(int(left.name.split("-")[3])):
            shutil.rmtree(left, ignore_errors=True)
    # The time tells a parent from an earlier one that had the same pid.
    folder = room / f"{PREFIX}-{os.getuid()}-{parent.pid}-{int(psutil.Process(parent.pid).create_time())}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return folder
