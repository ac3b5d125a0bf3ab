"""What follows when one of django-celery-beat's rows is changed: schedules that name it fire by it from now on."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction
from django.db.models.signals import post_save, pre_save
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule

from tasks_app.models import Schedule
from tasks_app.schedules import fire, times

log = logging.getLogger(__name__)

KINDS = {
    CrontabSchedule: "crontab",
    IntervalSchedule: "interval",
    SolarSchedule: "solar",
    ClockedSchedule: "clocked",
}


def follow() -> None:
    """Begins to hear of changes; once per process."""
    for model in KINDS:
        pre_save.connect(_looked, sender=model, dispatch_uid="a2a-schedules")
        post_save.connect(_changed, sender=model, dispatch_uid="a2a-schedules")


def _looked(sender: type[Any], instance: Any, **_: Any) -> None:
    """Sees whether what is saved says something else than before."""
    before = sender._default_manager.filter(pk=instance.pk).values().first()
    now = {field.attname: getattr(instance, field.attname) for field in sender._meta.concrete_fields}
    instance.a2a_is_another = before is not None and before != now


def _changed(sender: type[Any], instance: Any, **_: Any) -> None:
    if not instance.a2a_is_another:
        return
    with transaction.atomic():
        for schedule in Schedule.objects.select_for_update(of=("self",)).filter(**{KINDS[sender]: instance}):
            try:
                schedule.next_at = times.first(schedule, fire.clock())
            except ValueError as error:
                log.error("schedule %s fires no more: %s", schedule.pk, error)
                schedule.next_at = None
            schedule.save(update_fields=["next_at"])
