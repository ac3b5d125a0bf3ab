"""What an attempt used, what it may use, and what this machine has."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from django.conf import settings

from tasks_app.engine import Usage
from tasks_app.policies import Resources
from workers import cgroup, exits
from workers.exits import Cause

MIB = 2**20
#: Beyond its limit a process is killed only by this much more, so that its handler meets the softer limit before.
MEMORY_GRACE_BYTES = 48 * MIB
CPU_GRACE_S = 1.0
DISK_GRACE_BYTES = MIB


def overrun(asked: Resources, *, added_bytes: int, cpu_s: float, disk_bytes: int) -> Cause | None:
    """Which limit an attempt has left so far behind that its process must be killed; None if none."""
    if asked.memory_mb and added_bytes > asked.memory_mb * MIB + MEMORY_GRACE_BYTES:
        return exits.out_of_memory(asked)
    if asked.cpu_s and cpu_s > asked.cpu_s + CPU_GRACE_S:
        return exits.cpu_limit(asked)
    if asked.disk_mb and disk_bytes > asked.disk_mb * MIB + DISK_GRACE_BYTES:
        return exits.disk_limit(asked)
    return None


class Meter:
    """Measures one handler in its own process, from when it is made."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "wb", 0) as file:  # noqa: PTH123 (speed)
            file.write(b"5")  # the peak begins anew: proc(5)
        self.rss_bytes = status_bytes("VmRSS")
        self.cpu_s = cpu_s()

    def usage(self, *, peak_rss_bytes: int, disk_bytes: int) -> Usage:
        """What was used until now; the arguments are what the parent saw, which also looks at other processes."""
        return Usage(
            peak_rss_bytes=max(status_bytes("VmHWM"), peak_rss_bytes), cpu_s=cpu_s() - self.cpu_s, disk_bytes=disk_bytes
        )


def capacity(scratch: Path) -> Resources:
    """What this worker announces: as the settings say, and measured where they say 0."""
    return Resources(
        memory_mb=settings.A2A_WORKER_MEMORY_MB or _memory_bytes() // MIB,
        cores=settings.A2A_WORKER_CORES or float(os.cpu_count() or 1),
        disk_mb=settings.A2A_WORKER_DISK_MB or shutil.disk_usage(scratch).free // MIB,
    )


def cpu_s() -> float:
    """Processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def status_bytes(name: str) -> int:
    """A size of this process by its name in ``/proc/self/status``; 0 where there is none."""
    with contextlib.suppress(OSError), open("/proc/self/status", "rb", 0) as file:  # noqa: PTH123 (speed)
        _, _, after = file.read().partition(name.encode() + b":")
        return int(after.split(maxsplit=1)[0]) * 1024 if after else 0
    return 0


def _memory_bytes() -> int:
    """The machine's memory, or less, if this process's control group may not use it all."""
    total_bytes: int = psutil.virtual_memory().total
    return min(total_bytes, cgroup.memory_limit_bytes() or total_bytes)
