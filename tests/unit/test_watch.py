"""The parent's watch over real children: it measures them, kills what is over its limit, and says what each died of."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil  # type: ignore[import-untyped]
import pytest

from tasks_app.engine import Lost
from tasks_app.models import Outcome
from tasks_app.policies import Resources
from tests.children import Children, died, result_of
from tests.live import wait_for
from workers import procs
from workers.resources import MIB, Meter
from workers.scratch import ScratchRoot
from workers.slots import SlotTable
from workers.watch import Watch

SMALL = Resources(memory_mb=100, cpu_s=0.5, disk_mb=2)
ALLOCATE = "x = bytearray(200 << 20); import time; time.sleep(60)"


class Parent:
    """A worker's parent without a pool: forks one child for one attempt, and watches it."""

    def __init__(self) -> None:
        self.children, self.table, self.scratch = Children(), SlotTable(), ScratchRoot()
        self.told = 0
        self.started: list[psutil.Process] = []
        self.watch = Watch(self.table, self.scratch, on_loss=self._tell)

    def _tell(self) -> None:
        self.told += 1

    def run(self, handler: Callable[[], object], asked: Resources = SMALL) -> UUID:
        attempt_id = uuid4()

        def body() -> None:
            procs.adopt_orphans()
            self.table.take(0, attempt_id, agent="a", asked=asked)
            meter = Meter()
            pss_bytes = procs.share_bytes(os.getpid())
            self.table.handle(0, rss_bytes=meter.rss_bytes, cpu_s=meter.cpu_s, pss_bytes=pss_bytes)
            handler()

        self.children(body)
        wait_for(lambda: self.table.live() or self.table.slots(), timeout_s=5)
        return attempt_id

    def loss(self) -> Lost:
        """Looks until the attempt is lost."""
        found: list[Lost] = []

        def look() -> bool:
            self.started += procs.descendants(self.children.pids[0])
            self.watch.look()
            found.extend(self.watch.lost())
            return bool(found)

        wait_for(look, timeout_s=20, what="the attempt is lost")
        return found[0]

    def looks(self, times: int = 10) -> None:
        for _ in range(times):
            self.watch.look()
            time.sleep(0.02)


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parent]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Parent()
    yield made
    for pid in made.children.pids:
        procs.kill(procs.descendants(pid))
    made.children.end()
    made.scratch.remove()


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def allocate() -> None:
    held = bytearray(300 * MIB)
    held[0] = 1
    signal.pause()


def share() -> None:
    """Memory that no soft limit counts."""
    held = mmap.mmap(-1, 300 * MIB)
    for _ in range(300):
        held.write(bytes(MIB))
    signal.pause()


def burn() -> None:
    while True:
        pass


def start(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=False)


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (allocate, "out_of_memory"),
        (share, "out_of_memory"),
        (start(ALLOCATE), "out_of_memory"),
        (burn, "cpu_limit"),
        (start("while True: pass"), "cpu_limit"),
    ],
)
def test_a_process_far_over_its_limit_is_killed_with_all_it_started(
    parent: Parent, handler: Callable[[], object], code: str
) -> None:
    attempt_id = parent.run(handler)
    lost = parent.loss()
    assert (lost.attempt_id, lost.code, lost.outcome.value, lost.final) == (attempt_id, code, code, True)
    assert lost.released
    assert lost.usage.peak_rss_bytes
    assert lost.usage.cpu_s is not None
    if code == "cpu_limit":
        assert lost.usage.cpu_s > 0.5
    else:
        assert lost.usage.peak_rss_bytes > 100 * MIB
    assert parent.told == 1
    assert (parent.table.slots(), parent.watch.lost()) == ([], [])
    wait_for(lambda: not any(lives(process) for process in parent.started), timeout_s=5)


def test_scratch_files_over_the_limit_kill_their_process_and_are_removed(parent: Parent) -> None:
    def write() -> None:
        folder = parent.scratch.of(UUID(int=0)).path.parent / attempt_hex()
        folder.mkdir()
        for number in range(10):
            (folder / str(number)).write_bytes(bytes(MIB))
        signal.pause()

    def attempt_hex() -> str:
        return parent.table.slots()[0].attempt_id.hex

    attempt_id = parent.run(write)
    lost = parent.loss()
    assert (lost.code, lost.outcome) == ("disk_limit", Outcome.DISK_LIMIT)
    assert (lost.usage.disk_bytes or 0) > 2 * MIB
    assert not parent.scratch.of(attempt_id).path.exists()


def test_what_is_within_its_limits_is_left_alone_and_its_peak_is_handed_to_the_child(parent: Parent) -> None:
    attempt_id = parent.run(lambda: None)
    parent.looks()
    assert parent.table.live() == {attempt_id}
    peak_bytes, _ = parent.table.handled(0)
    assert peak_bytes > 10 * MIB


def test_a_process_is_not_limited_before_and_after_its_handler(parent: Parent) -> None:
    def rest() -> None:
        parent.table.handled(0)
        burn()

    attempt_id = parent.run(rest, Resources(cpu_s=0.001))
    wait_for(lambda: not parent.table.slots()[0].handling, timeout_s=5)
    pid = parent.children.pids[0]
    wait_for(lambda: sum(psutil.Process(pid).cpu_times()[:2]) > 1.5, timeout_s=20)
    parent.looks()
    assert parent.table.live() == {attempt_id}


@pytest.mark.parametrize(
    ("die", "code", "named"),
    [
        (lambda: ctypes.string_at(0), "segfault", "SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "process_lost", "SIGKILL"),
        (lambda: os._exit(7), "process_lost", "exit code 7"),
        (os.abort, "process_lost", "SIGABRT"),
    ],
)
def test_a_process_that_dies_by_itself_is_lost_with_its_cause(
    parent: Parent, die: Callable[[], object], code: str, named: str
) -> None:
    parent.run(die)
    lost = parent.loss()
    assert (lost.code, lost.outcome, lost.final) == (code, Outcome.PROCESS_LOST, False)
    assert named in lost.message


def test_what_a_dead_process_had_started_is_killed(parent: Parent) -> None:
    reader, writer = os.pipe()

    def handler() -> None:
        started = subprocess.Popen(["sleep", "60"])
        os.write(writer, str(started.pid).encode())
        signal.pause()

    parent.run(handler)
    orphan = psutil.Process(int(os.read(reader, 20)))
    parent.looks(1)
    os.kill(parent.children.pids[0], signal.SIGKILL)
    assert parent.loss().code == "process_lost"
    wait_for(lambda: not lives(orphan), timeout_s=5)
    os.close(reader)
    os.close(writer)


def _memory_group() -> Path | None:
    """A control group of 64 MiB, where this machine lets us make one."""
    for path, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(path) / f"a2a-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            (group / limit).write_text(str(64 * MIB))
            return group
    return None


def test_a_process_that_the_kernel_kills_for_want_of_memory_is_told_apart(parent: Parent) -> None:
    group = _memory_group()
    if group is None:
        pytest.skip("no control group of memory can be made here")

    def handler() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        allocate()

    try:
        parent.run(handler, Resources())
        lost = parent.loss()
        assert (lost.code, lost.outcome, lost.final) == ("oom_killed", Outcome.PROCESS_LOST, False)
    finally:
        parent.children.end()
        group.rmdir()


def test_what_was_started_is_ended_with_its_orphans_and_nobody_else() -> None:
    neighbour = subprocess.Popen(["sleep", "60"])

    def child() -> tuple[int, bool]:
        procs.adopt_orphans()
        procs.end_descendants()  # nothing yet
        subprocess.Popen(["sleep", "60"])
        subprocess.Popen(["sh", "-c", "setsid sleep 60 & setsid sleep 60 &"]).wait()
        before = len(procs.descendants(os.getpid()))
        procs.end_descendants()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
            return before, False
        return before, procs.descendants(os.getpid()) == []

    try:
        assert result_of(child) == (3, True)
        assert neighbour.poll() is None
    finally:
        neighbour.kill()
        neighbour.wait()


def test_memory_that_forks_share_is_not_counted_again(parent: Parent) -> None:
    """Three forks of a process that has 200 MiB use no more than it does alone, though each would say 200."""

    def handler() -> None:
        held: Any = bytearray(200 * MIB)
        children = Children()
        for _ in range(3):
            children(lambda: held[0])
        while True:
            signal.pause()

    # More than the 200, since four processes have a larger share than one of what they all share with this one.
    attempt_id = parent.run(handler, Resources(memory_mb=550))
    wait_for(lambda: len(procs.descendants(parent.children.pids[0])) == 3, timeout_s=10)
    parent.looks()
    assert parent.table.live() == {attempt_id}
    tree = procs.tree(parent.children.pids[0])
    assert 200 * MIB < (tree.pss_bytes or 0) < tree.rss_bytes + 100 * MIB


def test_where_the_kernel_lists_no_children_they_are_found_by_their_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children()
    pid = children(lambda: None)
    assert pid in {process.pid for process in procs.descendants(os.getpid())}
    assert pid in procs._children_by_parent(os.getpid())
    children.end()
    assert procs.descendants(pid) == []


def test_a_process_that_is_gone_is_said_so_whether_it_was_reaped_or_not() -> None:
    children = Children()
    pid = children(lambda: os._exit(0))
    died(pid)
    for _ in range(2):
        with pytest.raises(psutil.Error):
            procs.tree(pid)
        children.end()
