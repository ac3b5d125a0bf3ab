"""The soft limits of a handler, each in a real process of its own; and that nothing of them outlives it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks_app.models import Outcome
from tasks_app.policies import Resources
from tests.children import result_of
from workers import limits
from workers.exits import LimitReached
from workers.limits import limited
from workers.resources import MIB, cpu_s
from workers.scratch import Scratch


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch")


@pytest.fixture
def run(scratch: Scratch) -> Callable[..., Any]:
    """Runs a function within limits, in a child; what it returned or raised."""

    def run(body: Callable[[], Any], timeout_s: float = 60.0, **asked: Any) -> Any:
        def child() -> Any:
            try:
                with limited(Resources(**asked), timeout_s=timeout_s, scratch=scratch):
                    return body()
            except (MemoryError, OSError, LimitReached) as error:
                return error

        return result_of(child)

    return run


def burn() -> None:
    while True:
        pass


def test_memory_beyond_the_limit_is_refused(run: Callable[..., Any]) -> None:
    assert isinstance(run(lambda: len(bytearray(300 * MIB)), memory_mb=100), MemoryError)


def test_memory_within_the_limit_is_not(run: Callable[..., Any]) -> None:
    assert run(lambda: len(bytearray(90 * MIB)), memory_mb=100) == 90 * MIB
    assert run(lambda: len(bytearray(300 * MIB))) == 300 * MIB


def test_a_handler_that_fills_all_its_memory_bit_by_bit_leaves_enough_to_tidy_up(run: Callable[..., Any]) -> None:
    def body() -> None:
        chains: list[Any] = [None] * 64
        for size in itertools.cycle(range(64)):  # objects of every size that the allocator knows, to the last one
            with contextlib.suppress(MemoryError):
                while True:
                    chains[size] = (chains[size], *range(size))
            if size == 63:
                raise MemoryError

    assert isinstance(run(body, memory_mb=20, cpu_s=30.0), MemoryError)


def test_processor_time_ends_with_an_error_of_its_own_name(run: Callable[..., Any]) -> None:
    before_s = time.monotonic()
    error = run(burn, cpu_s=0.3)
    assert (error.code, error.outcome) == ("cpu_limit", Outcome.CPU_LIMIT)
    assert time.monotonic() - before_s > 0.3


def test_a_timer_that_rings_before_the_processor_time_is_used_up_is_set_again(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's counts by ticks; here it counts twice what the process says it has used."""
    monkeypatch.setattr(limits, "cpu_s", lambda: cpu_s() / 2)

    def body() -> float:
        before_s = cpu_s()
        with contextlib.suppress(LimitReached):
            burn()
        return cpu_s() - before_s

    assert run(body, cpu_s=0.3) > 0.55


def test_waiting_takes_no_processor_time(run: Callable[..., Any]) -> None:
    error = run(lambda: time.sleep(60), cpu_s=0.2, timeout_s=0.5)
    assert (error.code, error.outcome) == ("timeout", Outcome.TIMED_OUT)


def test_a_handler_is_interrupted_once(run: Callable[..., Any]) -> None:
    """What swallows its end is killed by the parent; a second ring might hit what comes after the handler."""

    def body() -> str:
        with contextlib.suppress(LimitReached):
            burn()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        return "went on"

    assert run(body, cpu_s=0.2, timeout_s=0.4) == "went on"


def test_a_file_may_be_as_large_as_the_scratch_folder_and_no_larger(run: Callable[..., Any], scratch: Scratch) -> None:
    def body() -> None:
        (scratch.path / "fits").write_bytes(bytes(MIB))
        (scratch.path / "too-large").write_bytes(bytes(3 * MIB))

    assert run(body, disk_mb=2).errno == errno.EFBIG
    assert sorted(path.name for path in scratch.path.iterdir()) == ["fits", "too-large"]


def test_temporary_files_of_a_handler_with_a_limit_are_in_its_scratch_folder(
    run: Callable[..., Any], scratch: Scratch
) -> None:
    def body() -> tuple[str, str]:
        code = "import tempfile; print(tempfile.gettempdir())"
        return tempfile.mkdtemp(), subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout

    own, of_a_process = run(body, disk_mb=2)
    assert (Path(own).parent, Path(of_a_process.strip())) == (scratch.path, scratch.path)


def _lower_everything() -> None:
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA, resource.RLIMIT_CPU):
        resource.setrlimit(kind, (100_000_000, resource.getrlimit(kind)[1]))


@pytest.mark.parametrize(
    "harm",
    [
        lambda: None,
        lambda: bytearray(300 * MIB),
        burn,
        lambda: os.chdir(tempfile.mkdtemp()),
        lambda: os.environ.update(TMPDIR="/nowhere"),
        lambda: setattr(tempfile, "tempdir", "/nowhere"),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGPROF}),
        lambda: signal.setitimer(signal.ITIMER_REAL, 0.05),
        lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
        _lower_everything,
    ],
)
def test_whatever_a_handler_does_the_next_one_starts_as_it_did(scratch: Scratch, harm: Callable[[], object]) -> None:
    def state() -> dict[str, Any]:
        kinds = [name for name in dir(resource) if name.startswith("RLIMIT_")]
        return {
            "limits": {name: resource.getrlimit(getattr(resource, name)) for name in kinds},
            "timers": [signal.getitimer(timer)[0] for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF)],
            "handlers": [str(signal.getsignal(number)) for number in (signal.SIGALRM, signal.SIGPROF)],
            "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            "folder": Path.cwd(),
            "temporary": (tempfile.tempdir, os.environ.get("TMPDIR")),
        }

    def child() -> tuple[dict[str, Any], dict[str, Any]]:
        before = state()
        asked = Resources(memory_mb=100, cpu_s=0.2, disk_mb=1)
        with contextlib.suppress(Exception), limited(asked, timeout_s=60, scratch=scratch):
            harm()
        return before, state()

    before, after = result_of(child)
    assert before == after


def test_a_limit_that_only_a_privileged_process_can_raise_again_is_left_at_what_it_can_be(scratch: Scratch) -> None:
    def child() -> tuple[int, int]:
        if os.getuid() == 0:
            os.setuid(65534)
        with limited(Resources(memory_mb=100), timeout_s=60, scratch=scratch):
            resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
        return resource.getrlimit(resource.RLIMIT_DATA)

    assert result_of(child) == (2**30, 2**30)


def test_a_log_file_that_is_large_already_can_still_be_written(scratch: Scratch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(3 * MIB))

    def child() -> int:
        with log.open("ab", 0) as file:
            os.dup2(file.fileno(), 2)
        with limited(Resources(disk_mb=1), timeout_s=60, scratch=scratch):
            return os.write(2, b"a line\n")

    assert result_of(child) == 7


def test_a_handler_within_its_limits_costs_little_to_watch(scratch: Scratch) -> None:
    """No file is made and no limit is set for an agent that declares nothing."""
    before = {kind: resource.getrlimit(kind) for kind in limits._KEPT}
    with limited(Resources(), timeout_s=60, scratch=scratch):
        assert {kind: resource.getrlimit(kind) for kind in limits._KEPT} == before
    assert not scratch.path.exists()
