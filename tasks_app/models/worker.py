"""Worker processes as they announce themselves, and the record of beat's sweeps."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from tasks_app.status import Lane

#: A worker that has missed as many heartbeats is silent: nothing is dispatched to it, and nothing waits for it.
MISSED_MAX = 3


def silent_after_s() -> float:
    """How long after its last heartbeat a worker is silent, in seconds."""
    return float(MISSED_MAX * settings.A2A_HEARTBEAT_S)


class Worker(models.Model):
    """One Celery worker. Its own heartbeat writes the row; the dispatcher counts its slots while it is live."""

    class State(models.TextChoices):
        ONLINE = "online"
        DRAINING = "draining"
        OFFLINE = "offline"

    #: Celery's node name, unique per start.
    name = models.CharField(max_length=128, primary_key=True)
    lane = models.CharField(max_length=8, choices=Lane.choices)
    hostname = models.CharField(max_length=128)
    pid = models.IntegerField()
    #: How many attempts it runs at once.
    slots = models.PositiveIntegerField()
    #: The agents it can run, and what it has for those that declare what they need; 0 is «not said»: no limit.
    agents = ArrayField(models.CharField(max_length=64), default=list)
    memory_mb = models.PositiveIntegerField(default=0, db_default=0)
    cores = models.FloatField(default=0.0, db_default=0.0)
    disk_mb = models.PositiveIntegerField(default=0, db_default=0)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ONLINE)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index("lane", name="worker_online_idx", condition=Q(state="online"))]

    def __str__(self) -> str:
        return self.name


class SweepTick(models.Model):
    """When a sweep ran last, so that a gap (the database was away) is seen before leases are judged by it."""

    name = models.CharField(max_length=32, primary_key=True)
    last_at = models.DateTimeField()
    #: Until then nothing is rescued: everybody lost the time that the gap took.
    hold_until = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
