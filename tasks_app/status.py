"""The states of a task, their transitions, and priorities, as data.

Pure: no database, no clock. The engine's SQL, the models' constraints and the transition trigger are
all written from these tables. The wire's names stand in ``tasks_app/a2a/wire.py``.
"""

from django.db.models import IntegerChoices, TextChoices


class TaskStatus(TextChoices):
    """A task's state. Who sets it, and who moves it on:

    * ``PENDING``: set by create, rescue, retry, by a client's message to a task that waits for one, and by the end of a
      turn while a message waits. Moved on by a claim, a cancel, the start deadline.
    * ``RUNNING``: set by a claim. Moved on by the attempt that holds the lease, a cancel, a timeout, rescue.
    * ``INPUT_REQUIRED`` / ``AUTH_REQUIRED``: set by the running attempt. Moved on by a client's message, a cancel, the
      end of the time for an answer.
    * ``COMPLETED``, ``FAILED``, ``CANCELLED``, ``REJECTED``: terminal. Nobody moves them on; a rerun is a new task.
    """

    PENDING = "pending"
    RUNNING = "running"
    INPUT_REQUIRED = "input_required"
    AUTH_REQUIRED = "auth_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


_S = TaskStatus

#: Every allowed move; what is not here is refused by the database too (migration ``0002``).
TRANSITIONS: dict[TaskStatus, frozenset[TaskStatus]] = {
    _S.PENDING: frozenset({_S.RUNNING, _S.CANCELLED, _S.REJECTED, _S.FAILED}),
    _S.RUNNING: frozenset(
        {
            _S.COMPLETED,
            _S.FAILED,
            _S.CANCELLED,
            _S.REJECTED,
            _S.PENDING,
            _S.INPUT_REQUIRED,
            _S.AUTH_REQUIRED,
        }
    ),
    _S.INPUT_REQUIRED: frozenset({_S.PENDING, _S.CANCELLED, _S.FAILED}),
    _S.AUTH_REQUIRED: frozenset({_S.PENDING, _S.CANCELLED, _S.FAILED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.REJECTED: frozenset(),
}

TERMINAL: frozenset[TaskStatus] = frozenset(state for state, after in TRANSITIONS.items() if not after)
INTERRUPTED: frozenset[TaskStatus] = frozenset({_S.INPUT_REQUIRED, _S.AUTH_REQUIRED})
#: In these a task does nothing by itself: it has ended, or waits for its client.
AT_REST: frozenset[TaskStatus] = TERMINAL | INTERRUPTED


class Priority(IntegerChoices):
    """How urgent a task is; the smaller number goes first. One queue per lane and priority."""

    CRITICAL = 0, "critical"
    HIGH = 1, "high"
    NORMAL = 2, "normal"
    LOW = 3, "low"

    @classmethod
    def parse(cls, name: str) -> "Priority":
        """The priority of this name. Raises ``ValueError`` that lists the names."""
        try:
            return cls[name.upper()]
        except KeyError:
            names = ", ".join(cls.labels)
            raise ValueError(f"'{name}' is no priority; one of {names}") from None


class Lane(TextChoices):
    """The kind of worker a task runs on: ``cpu`` is processes, ``io`` is one event loop with threads."""

    CPU = "cpu"
    IO = "io"
