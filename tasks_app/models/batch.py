"""Batches: tasks that were submitted together, followed and cancelled as one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.db.models import F, Q

from tasks_app.models.client import Client
from tasks_app.status import TaskStatus

if TYPE_CHECKING:
    from tasks_app.models.task import Task


class Batch(models.Model):
    """Tasks of one request. Written by ``engine/batches.py``.

    Each place, 0 to ``size`` - 1, is held by one task (``Task.batch_index``): a rerun takes it over from the task that
    it repeats, so that all counts follow the newest. A place whose item was refused is held by none.
    """

    #: UUIDv7, made by the process that accepted the request.
    id = models.UUIDField(primary_key=True, editable=False)
    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="batches", db_index=False)
    name = models.CharField(max_length=256, blank=True)
    #: The client's idempotency key; empty if it sent none.
    key = models.CharField(max_length=256, editable=False)
    #: SHA-256 of the request; tells a repeat from another request under the same key.
    digest = models.BinaryField(max_length=32)
    metadata = models.JSONField(default=dict)
    #: Items of the request, accepted or not.
    size = models.PositiveIntegerField()
    #: What was wrong with the items that were not accepted: ``[{"index": …, "field": …, "message": …}]``.
    refused = models.JSONField(default=list)
    #: Its tasks that were deleted, by state.
    pruned = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    #: When its last task ended; null again once one of them is run again.
    completed_at = models.DateTimeField(null=True)
    #: Its tasks by state when it was completed; null before.
    counts = models.JSONField(null=True)
    #: How often it was completed: the number of its newest event.
    generation = models.IntegerField(default=0)

    class Meta:
        verbose_name_plural = "batches"
        indexes = [
            models.Index("client", F("id").desc(), name="batch_client_newest_idx"),
            models.Index("id", name="batch_open_idx", condition=Q(completed_at__isnull=True)),
        ]
        constraints = [
            models.UniqueConstraint(fields=["client", "key"], name="batch_key_once", condition=~Q(key="")),
            models.CheckConstraint(
                name="batch_counts_iff_completed",
                condition=Q(completed_at__isnull=True, counts__isnull=True)
                | Q(completed_at__isnull=False, counts__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name or str(self.id)

    @property
    def places(self) -> models.QuerySet[Task]:
        """The tasks that hold its places: all but those that were run again."""
        return self.tasks.filter(batch_index__isnull=False)

    def open_ids(self) -> list[UUID]:
        """The tasks that have not ended, what needs others first: so none fails while those are cancelled."""
        return list(self.places.filter(completed_at__isnull=True).order_by("-batch_index").values_list("id", flat=True))

    @property
    def failed(self) -> models.QuerySet[Task]:
        """The tasks that failed, what is needed first."""
        return self.places.filter(status=TaskStatus.FAILED).order_by("batch_index")

    def failed_ids(self) -> list[UUID]:
        return list(self.failed.values_list("id", flat=True))
