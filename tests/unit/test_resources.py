"""What is measured of a handler, when it has used too much, and what a worker says it has."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from pytest_django import Settings

from tasks_app.policies import Resources
from tests.children import result_of
from workers import cgroup, resources
from workers.resources import CPU_GRACE_S, DISK_GRACE_BYTES, MEMORY_GRACE_BYTES, MIB, Meter, overrun

ASKED = Resources(memory_mb=100, cpu_s=10.0, disk_mb=5)


@pytest.mark.parametrize(
    ("used", "code"),
    [
        ({}, None),
        ({"added_bytes": 100 * MIB + MEMORY_GRACE_BYTES}, None),
        ({"added_bytes": 100 * MIB + MEMORY_GRACE_BYTES + 1}, "out_of_memory"),
        ({"cpu_s": 10.0 + CPU_GRACE_S}, None),
        ({"cpu_s": 10.1 + CPU_GRACE_S}, "cpu_limit"),
        ({"disk_bytes": 5 * MIB + DISK_GRACE_BYTES}, None),
        ({"disk_bytes": 5 * MIB + DISK_GRACE_BYTES + 1}, "disk_limit"),
    ],
)
def test_a_process_is_killed_only_well_beyond_its_limit(used: dict[str, Any], code: str | None) -> None:
    nothing = {"added_bytes": 0, "cpu_s": 0.0, "disk_bytes": 0}
    cause = overrun(ASKED, **{**nothing, **used})
    assert (cause and cause.code) == code
    assert overrun(Resources(), **{**nothing, **used}) is None


def pages(size_bytes: int) -> mmap.mmap:
    """So much memory that was nobody's before: what was allocated and freed would be given out again."""
    made = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, size_bytes, mmap.PAGESIZE):
        made[at] = 1
    return made


def test_a_meter_measures_the_peak_and_not_what_was_before() -> None:
    def child() -> tuple[int, int]:
        pages(200 * MIB).close()
        meter = Meter()
        pages(80 * MIB).close()
        return meter.rss_bytes, meter.usage(peak_rss_bytes=0, disk_bytes=0).peak_rss_bytes or 0

    base_bytes, peak_bytes = result_of(child)
    assert base_bytes + 79 * MIB < peak_bytes < base_bytes + 120 * MIB


def test_a_meter_counts_the_processor_time_of_processes_that_were_waited_for() -> None:
    def child() -> float:
        meter = Meter()
        code = "import time\nwhile time.process_time() < 0.4: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        return meter.usage(peak_rss_bytes=0, disk_bytes=0).cpu_s or 0.0

    assert 0.4 <= result_of(child) < 5


def test_what_the_parent_saw_counts_where_it_is_more() -> None:
    usage = Meter().usage(peak_rss_bytes=2**50, disk_bytes=3)
    assert (usage.peak_rss_bytes, usage.disk_bytes) == (2**50, 3)


def test_a_worker_announces_what_the_settings_say_and_measures_the_rest(settings: Settings, tmp_path: Path) -> None:
    settings.A2A_WORKER_MEMORY_MB, settings.A2A_WORKER_CORES, settings.A2A_WORKER_DISK_MB = 512, 1.5, 100
    assert resources.capacity(tmp_path) == Resources(memory_mb=512, cores=1.5, disk_mb=100)
    settings.A2A_WORKER_MEMORY_MB, settings.A2A_WORKER_CORES, settings.A2A_WORKER_DISK_MB = 0, 0.0, 0
    measured = resources.capacity(tmp_path)
    assert 0 < measured.memory_mb <= psutil.virtual_memory().total // MIB
    assert (measured.cores, measured.disk_mb > 0) == (os.cpu_count(), True)


@pytest.mark.parametrize(
    ("groups", "files", "limit_bytes", "oom_kills"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1000\n"}, 1000, 0),
        ("0::/a/b\n", {"a/b/memory.events": "low 0\noom 3\noom_kill 2\n"}, None, 2),
        ("4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": "500\n"}, 500, 0),
        ("4:memory:/x\n", {"memory/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"}, None, 7),
        ("0::/not/to/be/seen\n", {"memory.max": "2000\n"}, 2000, 0),
        ("", {}, None, 0),
    ],
)
def test_control_groups_of_both_versions_are_read(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    groups: str,
    files: dict[str, str],
    limit_bytes: int | None,
    oom_kills: int,
) -> None:
    for name, text in {**files, "groups": groups, "vmstat": "oom_kill 0\npgfault 5\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cgroup, "_MOUNTS", {"": tmp_path, "memory": tmp_path / "memory"})
    monkeypatch.setattr(cgroup, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cgroup, "_VMSTAT", tmp_path / "vmstat")
    assert (cgroup.memory_limit_bytes(), cgroup.oom_kills()) == (limit_bytes, oom_kills)


def test_the_kernel_counts_what_it_kills_on_this_machine() -> None:
    assert cgroup.oom_kills() >= 0
