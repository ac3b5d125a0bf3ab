"""Attempts: every claimed run of a task, who ran it, and why it ended. A running attempt holds the lease."""

from django.db import models
from django.db.models import Q

from tasks_app.models.task import Task


class Outcome(models.TextChoices):
    """How an attempt ended. The first four are set by the attempt itself, the others by whoever ended it."""

    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    RETRIED = "retried"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LEASE_EXPIRED = "lease_expired"
    PROCESS_LOST = "process_lost"


class TaskAttempt(models.Model):
    """One claimed run. ``id`` is random, made per execution: it is the fence that every write of the run carries."""

    id = models.UUIDField(primary_key=True, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.PositiveSmallIntegerField()
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

    class Meta:
        indexes = [
            models.Index("worker", name="attempt_unreleased_idx", condition=Q(released_at__isnull=True)),
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
