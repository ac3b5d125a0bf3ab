"""Schedules of recurring tasks, and the ledger of their fires."""

from __future__ import annotations

import uuid_utils.compat
from django.db import models
from django.db.models import F, Q
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule

from tasks_app.models.client import Client
from tasks_app.models.task import Task

_KINDS = ("crontab", "interval", "solar", "clocked")


class Schedule(models.Model):
    """A task that is made again and again. When is one of django-celery-beat's rows. Fired by ``schedules/fire.py``."""

    class Overlap(models.TextChoices):
        """What becomes of a fire while the task of the one before has not ended."""

        SKIP = "skip"
        QUEUE = "queue"
        CANCEL = "cancel"

    class CatchUp(models.TextChoices):
        """Which of the fires are made good whose instants passed while nothing was there to fire."""

        NONE = "none"
        LAST = "last"
        ALL = "all"

    id = models.UUIDField(primary_key=True, default=uuid_utils.compat.uuid7, editable=False)
    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="schedules", db_index=False)
    name = models.CharField(max_length=128)
    #: What ``POST /api/v1/tasks/`` takes.
    task = models.JSONField()
    crontab = models.ForeignKey(CrontabSchedule, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    interval = models.ForeignKey(IntervalSchedule, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    solar = models.ForeignKey(SolarSchedule, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    clocked = models.ForeignKey(ClockedSchedule, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    overlap = models.CharField(max_length=8, choices=Overlap.choices, default=Overlap.SKIP)
    catch_up = models.CharField(max_length=8, choices=CatchUp.choices, default=CatchUp.LAST)
    #: A fire's task starts up to so many seconds later, by chance.
    jitter_s = models.FloatField(default=0.0)
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: The settings declare it, and have the last word on it whenever worker-system starts.
    is_declared = models.BooleanField(default=False, editable=False)
    #: The first instant that was not dealt with; null if there is none any more.
    next_at = models.DateTimeField(null=True, editable=False)
    #: Intervals are counted from here.
    created_at = models.DateTimeField(editable=False)

    class Meta:
        indexes = [models.Index("next_at", name="schedule_due_idx", condition=Q(paused_at__isnull=True))]
        constraints = [
            models.UniqueConstraint(fields=["client", "name"], name="schedule_name_once"),
            models.CheckConstraint(
                name="schedule_jitter_in_a_day", condition=Q(jitter_s__gte=0.0, jitter_s__lte=86_400.0)
            ),
            models.CheckConstraint(
                name="schedule_of_one_kind",
                condition=Q(
                    *(Q(**{f"{kind}__isnull": kind != of for kind in _KINDS}) for of in _KINDS), _connector=Q.OR
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Fire(models.Model):
    """What became of one instant of a schedule; there is one for each, however many fire."""

    class Outcome(models.TextChoices):
        #: A task was made.
        STARTED = "started"
        #: The task of the fire before had not ended: nothing was made.
        SKIPPED = "skipped"
        #: It waits for that task to end.
        QUEUED = "queued"
        #: Nothing was there to fire, and it was not made good.
        MISSED = "missed"
        #: The task was refused.
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid_utils.compat.uuid7, editable=False)
    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="fires", db_index=False)
    at = models.DateTimeField()
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    task = models.ForeignKey(Task, null=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    #: Its task was made, and was not yet seen to have ended.
    is_open = models.BooleanField(default=False)
    #: Asked for by somebody, not by the schedule.
    is_manual = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            models.Index("task", name="fire_task_idx", condition=Q(task__isnull=False)),
            models.Index("schedule", name="fire_open_idx", condition=Q(is_open=True)),
            models.Index("schedule", "at", name="fire_queued_idx", condition=Q(outcome="queued")),
            models.Index(F("at").desc(), name="fire_old_idx", condition=Q(task__isnull=True)),
        ]
        constraints = [
            models.UniqueConstraint(fields=["schedule", "at", "is_manual"], name="fire_once"),
            models.CheckConstraint(
                name="fire_started_with_a_task", condition=Q(outcome="started") | Q(task__isnull=True, is_open=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.at:%Y-%m-%d %H:%M:%S} {self.outcome}"
