"""Artifacts: what tasks produce. Rows are written by the engine, in the statement that records the event."""

import uuid

from django.db import models


class Artifact(models.Model):
    """One A2A artifact of a task; its content stands in chunks, one per part."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    #: The task. No foreign key: this app knows nothing of tasks; the engine writes both in one statement.
    task_id = models.UUIDField(db_index=False, editable=False)
    #: The id on the wire, unique within the task (A2A 1.0, section 4.1.7).
    artifact_id = models.CharField(max_length=128, editable=False)
    name = models.CharField(max_length=256, blank=True)
    description = models.TextField(blank=True)
    #: The media type of its first part.
    type = models.CharField(max_length=128)
    size_bytes = models.BigIntegerField()
    #: Of the content, all parts one after the other.
    sha256 = models.BinaryField(max_length=32)
    metadata = models.JSONField(default=dict)
    #: The event that carried it. A later attempt that makes the same artifact again replaces it.
    generation = models.IntegerField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task_id", "artifact_id"], name="artifact_once_per_task"),
            models.CheckConstraint(name="artifact_size_not_negative", condition=models.Q(size_bytes__gte=0)),
        ]

    def __str__(self) -> str:
        return self.name or self.artifact_id


class ArtifactChunk(models.Model):
    """One part of an artifact's content, as bytes."""

    class Kind(models.TextChoices):
        TEXT = "text"
        DATA = "data"
        RAW = "raw"

    pk = models.CompositePrimaryKey("task_id", "generation", "position")
    task_id = models.UUIDField(editable=False)
    #: The event that carried it; a stream reads the chunks of an event by this.
    generation = models.IntegerField()
    position = models.IntegerField()
    artifact = models.ForeignKey(Artifact, on_delete=models.CASCADE, related_name="chunks")
    kind = models.CharField(max_length=4, choices=Kind.choices)
    media_type = models.CharField(max_length=128)
    filename = models.CharField(max_length=256, blank=True)
    #: UTF-8 for text, JSON for data.
    content = models.BinaryField()

    class Meta:
        ordering = ["generation", "position"]

    def __str__(self) -> str:
        return f"{self.artifact_id} #{self.position}"
