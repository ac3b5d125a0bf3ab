"""Checkpoints: what a handler wants to find again in its next attempt."""

from django.db import models

from tasks_app.models.task import Task


class Checkpoint(models.Model):
    """The last data that a handler left under one name. Written by the engine, fenced like every record."""

    pk = models.CompositePrimaryKey("task_id", "name")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, db_index=False, related_name="checkpoints")
    name = models.CharField(max_length=64)
    data = models.JSONField()
    #: The attempt that left it, by number, and the event that says so.
    attempt = models.PositiveIntegerField()
    generation = models.IntegerField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.task_id} {self.name}"
