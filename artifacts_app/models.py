"""Artifacts: what tasks produce. Rows are written by the engine, in the statement that records the event."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F
from django.db.models.functions import Coalesce

#: The condition that joins ``chunk`` to ``artifact``: the parts of its content, in the order (generation, position).
CURRENT = """chunk.task_id = artifact.task_id AND chunk.artifact_id = artifact.id
       AND chunk.generation BETWEEN COALESCE(artifact.first_generation, artifact.generation) AND artifact.generation"""


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
    #: Of the content, all parts one after the other; null until the last piece of it has come.
    sha256 = models.BinaryField(max_length=32, null=True)
    metadata = models.JSONField(default=dict)
    #: The event that began its content, if more than one carried it. A later attempt that makes it again replaces it.
    first_generation = models.IntegerField(null=True)
    #: The last event that carried some of it.
    generation = models.IntegerField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task_id", "artifact_id"], name="artifact_once_per_task"),
            models.CheckConstraint(name="artifact_size_not_negative", condition=models.Q(size_bytes__gte=0)),
        ]

    def __str__(self) -> str:
        return self.name or self.artifact_id


class ChunkQuerySet(models.QuerySet["ArtifactChunk"]):
    def current(self) -> ChunkQuerySet:
        """Those that are their artifact's content now. The others, which it replaced, stay for the streams."""
        first = Coalesce(F("artifact__first_generation"), F("artifact__generation"))
        return self.filter(
            task_id=F("artifact__task_id"), generation__gte=first, generation__lte=F("artifact__generation")
        )


class ArtifactChunk(models.Model):
    """One part of an artifact's content, as bytes."""

    class Kind(models.TextChoices):
        TEXT = "text"
        DATA = "data"
        RAW = "raw"
        URL = "url"

    pk = models.CompositePrimaryKey("task_id", "generation", "position")
    task_id = models.UUIDField(editable=False)
    #: The event that carried it; a stream reads the chunks of an event by this.
    generation = models.IntegerField()
    #: Its number among the parts of the artifact, from 0.
    position = models.IntegerField()
    artifact = models.ForeignKey(Artifact, on_delete=models.CASCADE, related_name="chunks")
    kind = models.CharField(max_length=4, choices=Kind.choices)
    media_type = models.CharField(max_length=128)
    filename = models.CharField(max_length=256, blank=True)
    #: UTF-8 for text and URLs, JSON for data.
    content = models.BinaryField()
    #: As the part said; null if it said nothing.
    metadata = models.JSONField(null=True)
    #: The event that began the content to which this was added; null if it came with that event.
    appended_to = models.IntegerField(null=True)

    objects = ChunkQuerySet.as_manager()

    class Meta:
        ordering = ["generation", "position"]

    def __str__(self) -> str:
        return f"{self.artifact_id} #{self.position}"
