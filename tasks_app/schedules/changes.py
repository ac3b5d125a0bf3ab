"""What follows when one of django-celery-beat's rows is changed: schedules that name it fire by it from now on."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule

from tasks_app.models import Schedule
from tasks_app.schedules import fire, times

KINDS = {
    CrontabSchedule: "crontab",
    IntervalSchedule: "interval",
    SolarSchedule: "solar",
    ClockedSchedule: "clocked",
}


def follow() -> None:
    """Begins to hear of changes; once per process."""
    for model in KINDS:
        post_save.connect(_changed, sender=model, dispatch_uid="a2a-schedules")


def _changed(sender: type[Any], instance: Any, *, created: bool, **_: Any) -> None:
    if created:
        return
    now = fire.clock()
    for schedule in Schedule.objects.filter(**{KINDS[sender]: instance}):
        schedule.next_at = times.first(schedule, now)
        schedule.save(update_fields=["next_at"])
