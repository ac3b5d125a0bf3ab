"""Why an attempt ended without saying so itself: the limits it broke, and what its process died of."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from tasks_app import agents
from tasks_app.agents import AgentError
from tasks_app.engine import Lost, Usage
from tasks_app.models import Outcome
from tasks_app.policies import Resources
from workers.slots import Exit

CRASHES = (signal.SIGSEGV, signal.SIGBUS)
#: A process that the kernel kills may take this long to die after it was counted.
OOM_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an attempt was ended; ``code`` and ``message`` are for its client.

    ``limit``: it broke a limit, and would again: its task has failed, unless the agent's retry policy names the code.
    """

    outcome: Outcome
    code: str
    message: str
    limit: bool = False


class LimitReached(AgentError):
    """Raised in a handler that has used up one of its limits.

    Made by :meth:`by`, since Celery makes exceptions anew from their texts and attributes.
    """

    outcome = Outcome.FAILED

    @classmethod
    def by(cls, cause: Cause) -> LimitReached:
        error = cls(cause.message, code=cause.code)
        error.outcome = cause.outcome
        return error


def out_of_memory(asked: Resources) -> Cause:
    most = f"more than its {asked.memory_mb} MiB of memory" if asked.memory_mb else "more memory than there is"
    return Cause(outcome=Outcome.OUT_OF_MEMORY, code="out_of_memory", message=f"needed {most}", limit=True)


def cpu_limit(asked: Resources) -> Cause:
    message = f"used more than its {asked.cpu_s:g} s of processor time"
    return Cause(outcome=Outcome.CPU_LIMIT, code="cpu_limit", message=message, limit=True)


def disk_limit(asked: Resources) -> Cause:
    message = f"wrote more than its {asked.disk_mb} MiB of scratch files"
    return Cause(outcome=Outcome.DISK_LIMIT, code="disk_limit", message=message, limit=True)


def timeout(timeout_s: float) -> Cause:
    message = f"ran longer than its timeout of {timeout_s:g} s"
    return Cause(outcome=Outcome.TIMED_OUT, code="timeout", message=message, limit=True)


HEARTBEAT_LOST = Cause(
    outcome=Outcome.HEARTBEAT_LOST, code="heartbeat_lost", message="its handler gave no sign of life for too long"
)


def cause_of(status: int | None, *, killed: Cause | None, oom: bool) -> Cause:
    """Why a process died with its attempt.

    ``status`` as in :class:`~workers.slots.Exit`; ``killed``: the limit for which its parent killed it, if it did;
    ``oom``: whether the kernel has lately killed somebody for want of memory.
    """
    if killed is not None and status in (-signal.SIGKILL, None):
        return killed
    if status is None:
        code, message = "process_lost", "the process that ran it died"
    elif -status in CRASHES:
        code, message = "segfault", f"the process that ran it crashed: {_described(status)}"
    elif status == -signal.SIGKILL and oom:
        code, message = "oom_killed", "the system ran out of memory and killed the process that ran it"
    else:
        code, message = "process_lost", f"the process that ran it died: {_described(status)}"
    return Cause(outcome=Outcome.PROCESS_LOST, code=code, message=message)


def loss(exit: Exit, cause: Cause, usage: Usage) -> Lost:
    """What the engine is told."""
    return Lost(
        attempt_id=exit.attempt_id,
        outcome=cause.outcome,
        code=cause.code,
        message=cause.message,
        final=cause.limit and cause.code not in _retried(exit.agent),
        usage=usage,
    )


def silence(attempt_id: UUID) -> Lost:
    """What the engine is told of an attempt whose handler fell silent, and which is now made to stop."""
    cause = HEARTBEAT_LOST
    return Lost(attempt_id=attempt_id, outcome=cause.outcome, code=cause.code, message=cause.message, released=False)


class OomWatch:
    """Whether the kernel's count of processes it killed for want of memory has risen lately."""

    def __init__(self, count: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._clock = count, clock
        self._seen: deque[tuple[float, int]] = deque()
        self._note()

    def look(self) -> None:
        """To be called more often than the window is long; counts once a second at most."""
        if self._clock() - self._seen[-1][0] >= 1.0:
            self._note()

    def _note(self) -> None:
        now = self._clock()
        self._seen.append((now, self._count()))
        while len(self._seen) > 2 and now - self._seen[1][0] > OOM_WINDOW_S:
            self._seen.popleft()

    def rose(self) -> bool:
        self._note()
        return self._seen[-1][1] > self._seen[0][1]


def _retried(agent: str) -> frozenset[str]:
    try:
        return agents.get(agent).retry.codes
    except agents.UnknownAgent:
        return frozenset()


def _described(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
