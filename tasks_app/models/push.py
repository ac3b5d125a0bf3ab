"""Push notifications: where a task's events are to be sent, what became of each try, and what they are signed with.

The event log is the outbox (D6): a config is a cursor into it. Of a batch the completions are the events, of which the
newest counts. Secrets are sealed, see ``push/sealing.py``.
"""

from django.db import models
from django.db.models import Q

from tasks_app.models.batch import Batch
from tasks_app.models.client import Client
from tasks_app.models.task import Task


class PushConfig(models.Model):
    """One webhook of one task (A2A 1.0, section 4.3.1), or a batch's. Written by ``push/configs.py`` and
    ``push/outbox.py``; a batch that is complete makes its own due, in ``engine/batches.py``."""

    class State(models.TextChoices):
        #: Its task's events are sent as they come.
        ACTIVE = "active"
        #: It failed too often, or answered 410 Gone; an operator may resume it, or its client replace it.
        DEAD = "dead"
        #: The task has ended, and its last event was taken; or the batch's completion was.
        DONE = "done"

    #: UUIDv7, ours, since the client's is unique in its task only; part of the ``webhook-id``.
    id = models.UUIDField(primary_key=True, editable=False)
    task = models.ForeignKey(Task, null=True, on_delete=models.CASCADE, db_index=False, related_name="push_configs")
    batch = models.ForeignKey(Batch, null=True, on_delete=models.CASCADE, db_index=False, related_name="push_configs")
    #: The wire's id: the client's, or made where it named none.
    config_id = models.CharField(max_length=128)
    url = models.TextField()
    #: Host and port of the url: deliveries are shared out fairly among hosts.
    host = models.CharField(max_length=300)
    #: Sealed: what is sent as X-A2A-Notification-Token, and in Authorization after the scheme.
    token = models.BinaryField(null=True)
    scheme = models.CharField(max_length=64, default="")
    credentials = models.BinaryField(null=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ACTIVE)
    #: The newest generation that was taken (any 2xx), or that its client knew when it asked; the next one is sent next.
    delivered = models.IntegerField()
    #: Tries of the next event that failed, one after the other.
    failures = models.PositiveIntegerField(default=0)
    #: Not before this instant: after a failure the backoff's end; while it is claimed, the end of the claim.
    next_at = models.DateTimeField()
    #: Who delivers it now; the fence of what he writes. An expired claim is anybody's.
    claimed_by = models.UUIDField(null=True)
    #: Of the last try, for operators; empty after one that was taken.
    last_error = models.TextField(default="")
    created_at = models.DateTimeField()
    dead_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index("next_at", name="push_active_idx", condition=Q(state="active")),
            models.Index("dead_at", name="push_dead_idx", condition=Q(state="dead")),
        ]
        constraints = [
            models.UniqueConstraint(fields=["task", "config_id"], name="push_config_once"),
            models.UniqueConstraint(fields=["batch"], name="push_batch_once", condition=Q(batch__isnull=False)),
            models.CheckConstraint(
                name="push_of_task_or_batch",
                condition=Q(task__isnull=False, batch__isnull=True) | Q(task__isnull=True, batch__isnull=False),
            ),
            models.CheckConstraint(name="push_state_known", condition=Q(state__in=["active", "dead", "done"])),
            models.CheckConstraint(name="push_delivered_not_negative", condition=Q(delivered__gte=0)),
            models.CheckConstraint(
                name="push_dead_at_iff_dead",
                condition=Q(state="dead", dead_at__isnull=False) | (~Q(state="dead") & Q(dead_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="push_claimed_only_active", condition=Q(claimed_by__isnull=True) | Q(state="active")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_id or self.batch_id} {self.config_id}"


class PushDelivery(models.Model):
    """One HTTP request that was tried, for operators; kept as long as its task or batch."""

    #: UUIDv7, made by who tried, so that a record whose answer was lost is not made twice.
    id = models.UUIDField(primary_key=True, editable=False)
    task = models.ForeignKey(
        Task, null=True, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    batch = models.ForeignKey(
        Batch, null=True, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    #: The PushConfig's own id; the config may be gone.
    config = models.UUIDField()
    config_id = models.CharField(max_length=128)
    host = models.CharField(max_length=300)
    generation = models.IntegerField()
    #: Which try of this event it was, since the last one that was taken or the last resumption.
    number = models.PositiveIntegerField()
    at = models.DateTimeField()
    duration_s = models.FloatField()
    #: The answer's; null where none came.
    status_code = models.PositiveSmallIntegerField(null=True)
    error = models.TextField(default="")

    class Meta:
        verbose_name_plural = "push deliveries"
        indexes = [
            models.Index("task", "config", "generation", name="push_delivery_idx"),
            models.Index("batch", name="push_delivery_batch_idx", condition=Q(batch__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.task_id or self.batch_id} #{self.generation} to {self.host}"


class WebhookSecret(models.Model):
    """What a client's notifications are signed with (Standard Webhooks). Issued by operators, shown once."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="webhook_secrets")
    #: Sealed: 32 random bytes.
    secret = models.BinaryField(editable=False)
    created_at = models.DateTimeField(editable=False)
    #: Set when the next one is issued: until then both sign, so that receivers can change over.
    expires_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return f"{self.client} since {self.created_at:%Y-%m-%d}"
