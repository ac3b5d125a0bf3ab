"""Follow-up messages: what a client says to a task that it has made before."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from tasks_app.models.task import Task


class InboxMessage(models.Model):
    """One follow-up; each has a turn of its own, in the order of arrival. Written by ``engine/deliver``, never changed.

    The message itself is the payload of its event. Unique per task and message id: sent again it changes nothing.
    """

    pk = models.CompositePrimaryKey("task_id", "seq")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, db_index=False, related_name="inbox")
    #: 1..n without a gap; the request's own message is 0 and stands in ``TaskRequest``.
    seq = models.IntegerField()
    message_id = models.CharField(max_length=256)
    #: SHA-256 of the message; tells a repeat from another message under the same id.
    digest = models.BinaryField(max_length=32)
    #: The event that carries it.
    generation = models.IntegerField()
    #: The media types that the client takes as an answer to it; empty if it did not say.
    accepted_output_modes = ArrayField(models.TextField(), default=list, db_default=[])
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task", "message_id"], name="inbox_message_once"),
            models.CheckConstraint(name="inbox_seq_from_1", condition=models.Q(seq__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} message {self.seq}"
