"""What this process's control groups (version 1 or 2) say of memory. Containers have them; without any, nothing."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path

_MOUNTS = {"": Path("/sys/fs/cgroup"), "memory": Path("/sys/fs/cgroup/memory")}
_GROUPS = Path("/proc/self/cgroup")
_VMSTAT = Path("/proc/vmstat")


def memory_limit_bytes() -> int | None:
    """The least limit from this process's group up to the root; None if there is none."""
    texts = [_text(folder / name) for folder in _folders() for name in ("memory.max", "memory.limit_in_bytes")]
    return min((int(text) for text in texts if text.strip().isdigit()), default=None)


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, in this group and on this machine, so far."""
    names = ("memory.events", "memory.oom_control")
    texts = [_text(_VMSTAT), *[_text(folder / name) for folder in _folders() for name in names]]
    return sum(_count(text) for text in texts)


def _folders() -> list[Path]:
    """Where this process's groups are described, from its own up to the root, as far as they can be seen."""
    folders = []
    for line in _text(_GROUPS).splitlines():
        _, controllers, group = line.split(":", 2)
        mount = _MOUNTS.get(controllers)
        if mount is not None:
            own = mount / group.lstrip("/")
            folders += [own, *[parent for parent in own.parents if parent.is_relative_to(mount)]]
    return folders


def _count(text: str) -> int:
    words = text.split()
    return sum(int(value) for name, value in pairwise(words) if name == "oom_kill")


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
