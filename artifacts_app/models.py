"""Artifacts: what tasks produce. Rows are written by the engine, in the statement that records the event."""

from __future__ import annotations

import uuid

import uuid_utils.compat
from django.db import models
from django.db.models import F
from django.db.models.functions import Coalesce

#: The condition that joins ``chunk`` to ``artifact``: the parts of its content, in the order (generation, position).
CURRENT = """chunk.task_id = artifact.task_id AND chunk.artifact_id = artifact.id
       AND chunk.generation BETWEEN COALESCE(artifact.first_generation, artifact.generation) AND artifact.generation"""


#: How long a part's content is, wherever it stands; to be formatted with the name of its row.
SIZE = "COALESCE({chunk}.size_bytes, octet_length({chunk}.content))"
#: The blob of ``chunk``, if it has one; and of its columns what :class:`artifacts_app.blobs.Stored` is made of.
BLOB = "LEFT JOIN artifacts_app_blob blob ON blob.id = chunk.blob_id"
STORED = "blob.id, blob.storage, blob.key_id, blob.size_bytes"


class Blob(models.Model):
    """Bytes in one of the storages, under the blob's id as their name. Written by ``blobs.put``, never changed.

    The row is there before the first byte and goes before the last, so that no bytes are without one: while they are
    written ``stored_at`` is null. Of bytes that are there already there is no second blob.
    """

    id = models.UUIDField(primary_key=True, default=uuid_utils.compat.uuid7, editable=False)
    #: Which of ``A2A_ARTIFACT_STORAGE``, as it stands there.
    storage = models.CharField(max_length=500)
    #: Tells the key that seals the bytes; empty where none does.
    key_id = models.CharField(max_length=16, blank=True)
    #: Of the content, as it was before it was sealed.
    sha256 = models.BinaryField(max_length=32, null=True)
    size_bytes = models.BigIntegerField(null=True)
    #: When all of it was there.
    stored_at = models.DateTimeField(null=True)
    #: When the collector looks whether anything names it; null: when something that named it has gone.
    collect_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["sha256", "storage", "key_id"], name="blob_once", condition=models.Q(stored_at__isnull=False)
            ),
            models.CheckConstraint(
                name="blob_known_when_stored",
                condition=models.Q(stored_at=None) | models.Q(sha256__isnull=False, size_bytes__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["collect_at"], name="blob_collect_idx", condition=models.Q(collect_at__isnull=False))
        ]

    def __str__(self) -> str:
        return str(self.id)


class BlobRemoval(models.Model):
    """Bytes that no blob names any more, until they have been deleted."""

    id = models.UUIDField(primary_key=True, editable=False)
    storage = models.CharField(max_length=500)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.id)


class BlobPiece(models.Model):
    """Some of the bytes that stand in the database: of one name, in order."""

    pk = models.CompositePrimaryKey("name", "number")
    name = models.CharField(max_length=200)
    number = models.IntegerField()
    content = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.name} #{self.number}"


class MessageFile(models.Model):
    """A file that came in a client's message and stands in a blob. Written by the engine, with the message."""

    pk = models.CompositePrimaryKey("task_id", "blob_id")
    task_id = models.UUIDField(editable=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="files")

    def __str__(self) -> str:
        return f"{self.task_id}: {self.blob_id}"


class Upload(models.Model):
    """A file that a client has sent by itself, to be named in messages. Written by ``uploads.keep``."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.compat.uuid7, editable=False)
    #: The client. No foreign key: this app knows nothing of clients.
    client_id = models.BigIntegerField(db_index=True)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="uploads")
    filename = models.CharField(max_length=256, blank=True)
    media_type = models.CharField(max_length=128)
    created_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.filename or str(self.id)


class Artifact(models.Model):
    """One A2A artifact of a task; its content stands in chunks, one per part."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    #: The task. No foreign key: this app knows nothing of tasks; the engine writes both in one statement.
    task_id = models.UUIDField(db_index=False, editable=False)
    #: The id on the wire, unique within the task (A2A 1.0, section 4.1.7).
    artifact_id = models.CharField(max_length=128, editable=False)
    name = models.CharField(max_length=256, blank=True)
    #: Among those of this name, from 1: a handler may give one name to several.
    version = models.PositiveIntegerField(default=1, db_default=1)
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
    """One part of an artifact's content: here, or where its blob stands."""

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
    #: UTF-8 for text and URLs, JSON for data. Null where it stands in a blob.
    content = models.BinaryField(null=True)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, null=True, db_index=False, related_name="chunks")
    #: Of the blob; null where the content is here.
    size_bytes = models.BigIntegerField(null=True)
    #: As the part said; null if it said nothing.
    metadata = models.JSONField(null=True)
    #: The event that began the content to which this was added; null if it came with that event.
    appended_to = models.IntegerField(null=True)

    objects = ChunkQuerySet.as_manager()

    class Meta:
        ordering = ["generation", "position"]
        indexes = [models.Index(fields=["blob"], name="chunk_of_blob_idx", condition=models.Q(blob__isnull=False))]
        constraints = [
            models.CheckConstraint(
                name="chunk_here_or_in_a_blob",
                condition=models.Q(content__isnull=False, blob=None, size_bytes=None)
                | models.Q(content=None, blob__isnull=False, size_bytes__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.artifact_id} #{self.position}"
