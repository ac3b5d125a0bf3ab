"""Runs parts of a test in real forked children."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import Any


def result_of(body: Callable[[], Any]) -> Any:
    """What the function returns in a forked child. Fails with the child's traceback if it raised, or its status."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = pickle.dumps((True, body()))
        except BaseException:
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writer, "wb") as file:
            file.write(answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert data, f"the child ended with {status}"
    done, answer = pickle.loads(data)  # noqa: S301 (our own child's)
    assert done, answer
    return answer


class Children:
    """Children that wait to be killed once they have run their function; killed and reaped at the end."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def __call__(self, body: Callable[[], object]) -> int:
        """Forks; the child's pid."""
        pid = os.fork()
        if pid == 0:
            faulthandler.disable()  # pytest's would print its own stack where a child is to crash
            try:
                body()
                while True:
                    signal.pause()
            finally:
                os._exit(0)
        self.pids.append(pid)
        return pid

    def end(self) -> None:
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                continue


def died(pid: int) -> None:
    """Waits until a child has died, and leaves it unreaped, as a pool that has not looked yet."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
