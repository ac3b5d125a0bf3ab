"""The event log: a task's history, what its streams send, and the outbox of its notifications (D6)."""

from django.db import models

from tasks_app.models.task import Task
from tasks_app.status import TaskStatus


class EventKind(models.TextChoices):
    STATUS = "status"
    PROGRESS = "progress"
    ARTIFACT = "artifact"
    MESSAGE = "message"
    CHECKPOINT = "checkpoint"


#: The condition on ``event`` that its payload is a message, of the agent's or a further one of the client's.
IS_SAID = "event.payload IS NOT NULL AND event.kind NOT IN ('artifact', 'checkpoint')"


class TaskEvents(models.QuerySet["TaskEvent"]):
    def said(self) -> "TaskEvents":
        """Those that :data:`IS_SAID` holds for."""
        return self.filter(payload__isnull=False).exclude(kind__in=[EventKind.ARTIFACT, EventKind.CHECKPOINT])


class TaskEvent(models.Model):
    """One change of one task. Written in the statement that made the change; never changed after.

    ``payload`` is protobuf: for status, progress and message events the A2A Message that came with it, if any (the
    client's in a message event of no attempt, which is a follow-up; else the agent's); for artifact events a
    TaskArtifactUpdateEvent without its parts, which stand in ``artifacts_app.ArtifactChunk`` under the same generation;
    for checkpoint events the checkpoint's name, as UTF-8.
    """

    pk = models.CompositePrimaryKey("task_id", "generation")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="events")
    generation = models.IntegerField()
    kind = models.CharField(max_length=16, choices=EventKind.choices)
    #: The state after this change.
    status = models.CharField(max_length=16, choices=TaskStatus.choices)
    #: The progress after this change, 0.0–1.0.
    progress = models.FloatField(default=0.0)
    payload = models.BinaryField(null=True)
    #: Why, where somebody else than the attempt made the change: ``{"code": …, "message": …}``.
    error = models.JSONField(null=True)
    #: The attempt that wrote it, by number; 0 when it was no attempt's.
    attempt = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()

    objects = TaskEvents.as_manager()

    class Meta:
        ordering = ["task_id", "generation"]

    def __str__(self) -> str:
        return f"{self.task_id} #{self.generation} {self.kind} {self.status}"
