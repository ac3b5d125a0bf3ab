"""Attempts: every claimed run of a task, who ran it, and why it ended. A running attempt holds the lease."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q

from tasks_app.models.task import Task


class Outcome(models.TextChoices):
    """How an attempt ended: by itself, or ended by its worker, a client or a sweep.

    ``SNOOZED``, ``HANDED_BACK`` (its worker shut down) and ``NO_ROOM`` (its worker had less free than it needs) spend
    none of the task's attempts.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    RETRIED = "retried"
    SNOOZED = "snoozed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    HEARTBEAT_LOST = "heartbeat_lost"
    OUT_OF_MEMORY = "out_of_memory"
    CPU_LIMIT = "cpu_limit"
    DISK_LIMIT = "disk_limit"
    LEASE_EXPIRED = "lease_expired"
    PROCESS_LOST = "process_lost"
    HANDED_BACK = "handed_back"
    NO_ROOM = "no_room"


#: What a circuit breaker counts: the attempt ended, and not as its handler or its client wished.
BREAKER_FAILURES = (
    Outcome.FAILED,
    Outcome.RETRIED,
    Outcome.TIMED_OUT,
    Outcome.HEARTBEAT_LOST,
    Outcome.OUT_OF_MEMORY,
    Outcome.CPU_LIMIT,
    Outcome.DISK_LIMIT,
    Outcome.LEASE_EXPIRED,
    Outcome.PROCESS_LOST,
)


class TaskAttempt(models.Model):
    """One claimed run. ``id`` is random, made per execution: it is the fence that every write of the run carries."""

    id = models.UUIDField(primary_key=True, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    agent = models.CharField(max_length=64, default="", db_default="")
    number = models.PositiveIntegerField()
    epoch = models.IntegerField()
    worker = models.CharField(max_length=128)
    pid = models.IntegerField()
    claimed_at = models.DateTimeField()
    #: Set by the claim, moved on by the worker's heartbeat; past it the sweep may end the attempt.
    lease_expires_at = models.DateTimeField()
    #: When its right to write ended.
    ended_at = models.DateTimeField(null=True)
    #: When its handler stopped and its slot became free; later than ``ended_at`` after a cancel.
    released_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=16, choices=Outcome.choices, null=True)  # noqa: DJ001 (null: still running)
    error = models.JSONField(null=True)
    traceback = models.TextField(default="")
    #: What it used, measured by its worker in the cpu lane; null where nobody measured.
    peak_rss_bytes = models.BigIntegerField(null=True)
    cpu_s = models.FloatField(null=True)
    disk_bytes = models.BigIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index("worker", name="attempt_unreleased_idx", condition=Q(released_at__isnull=True)),
            # For the circuit breakers; attempts that end well are not in it.
            models.Index(
                "agent", "ended_at", name="attempt_failures_idx", condition=Q(outcome__in=sorted(BREAKER_FAILURES))
            ),
            # For the breakers' rates: as good as free, since attempts are inserted in the order of their claims.
            BrinIndex(fields=["claimed_at"], name="attempt_claimed_brin", pages_per_range=16),
        ]
        constraints = [
            models.UniqueConstraint(fields=["task", "epoch"], name="attempt_one_per_epoch"),
            models.CheckConstraint(
                name="attempt_outcome_iff_ended",
                condition=Q(ended_at__isnull=True, outcome__isnull=True)
                | Q(ended_at__isnull=False, outcome__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.task_id}"
