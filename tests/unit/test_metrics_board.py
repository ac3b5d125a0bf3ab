"""The board: numbers that outlive the processes that add to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tasks_app.metrics.board import Board
from tests.live import wait_for

ROOT = Path(__file__).resolve().parents[2]
SIBLING = """
import django, pathlib, sys
django.setup()
from tasks_app.metrics.board import Board
board = Board(columns=2, rows=4, file=pathlib.Path(sys.argv[1]))
for line in sys.stdin:
    board.add([(0, float(line))])
    print(board.totals()[0], flush=True)
"""


def in_child(work: Callable[[], None]) -> int:
    """The child's status after it did the work; of one that does not end within ten seconds, that it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGKILL


def adding(board: Board, row: int, amount: float, *, then: Callable[[], None] = lambda: None) -> Callable[[], None]:
    def work() -> None:
        board.take(row)
        board.add([(1, amount)])
        then()

    return work


def test_what_a_killed_child_counted_stays_and_its_successor_goes_on_from_there() -> None:
    board = Board(columns=2, rows=3)
    board.add([(1, 1.0)])
    killed = in_child(adding(board, 1, 5.0, then=lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert killed == -signal.SIGKILL
    assert board.totals() == [0.0, 6.0]
    assert in_child(adding(board, 1, 2.0)) == 0
    assert in_child(adding(board, 2, 10.0)) == 0
    assert board.totals() == [0.0, 18.0]


def test_children_that_count_at_once_lose_nothing() -> None:
    board, each = Board(columns=2, rows=5), 50_000
    gate, opened = os.pipe()

    def work(row: int) -> None:
        board.take(row)
        os.close(opened)
        os.read(gate, 1)
        for _ in range(each):
            board.add([(1, 1.0)])

    children = [threading.Thread(target=in_child, args=[partial(work, row)]) for row in range(1, 5)]
    for child in children:
        child.start()
    wait_for(lambda: all(board._taken[row] for row in range(1, 5)), timeout_s=10)
    os.close(opened)
    for child in children:
        child.join()
    os.close(gate)
    assert board.totals() == [0.0, 4.0 * each]


def test_a_child_counts_though_a_thread_of_its_parent_was_counting_when_it_was_forked() -> None:
    board = Board(columns=2, rows=2)
    with board._lock:
        assert in_child(adding(board, 1, 1.0)) == 0
    assert board.totals() == [0.0, 1.0]


def test_a_child_too_many_shares_the_last_row_and_writes_nowhere_else() -> None:
    board = Board(columns=2, rows=2)
    assert in_child(adding(board, 7, 1.0)) == 0
    assert board.totals() == [0.0, 1.0]


def test_processes_started_apart_share_a_file_and_one_that_is_killed_leaves_its_row_to_the_next(tmp_path: Path) -> None:
    siblings = [sibling(tmp_path / "board") for _ in range(2)]
    try:
        assert say(siblings[0], 1) == 1
        assert say(siblings[1], 10) == 11
        siblings[0].kill()
        siblings[0].wait()
        siblings.append(sibling(tmp_path / "board"))
        assert say(siblings[2], 100) == 111
        assert say(siblings[1], 1000) == 1111
    finally:
        for process in siblings:
            process.kill()
            process.communicate()


def sibling(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SIBLING, str(file)]
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "a2a_project.settings"}
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def say(process: subprocess.Popen[str], number: int) -> float:
    """What the sibling sees after it added the number."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    return float(process.stdout.readline())
