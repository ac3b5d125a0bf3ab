"""django-celery-beat's own pages in our theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.utils import timezone
from django_celery_beat import admin as beat
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from tasks_app.schedules import times

CRONTAB = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")

if TYPE_CHECKING:

    class TaskSelect:
        """Unfold's select over the registered jobs."""

    class Form(forms.ModelForm[Any]):
        """Beat's form."""

    RowForm = forms.ModelForm[Any]

    class Schedules(admin.ModelAdmin[Any]):
        """Beat's page of a kind of schedule."""

    class PeriodicTasks(admin.ModelAdmin[Any]):
        """Beat's page of a periodic task."""
else:
    from unfold.admin import ModelAdmin as Theme

    class TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
        pass

    class Form(beat.PeriodicTaskForm):
        pass

    RowForm = forms.ModelForm

    class Schedules(Theme):
        """Without beat's inline, which has no theme: a schedule's tasks are found from the tasks."""

    class PeriodicTasks(beat.PeriodicTaskAdmin, Theme):
        pass


for model in (PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule):
    admin.site.unregister(model)


class ThemedForm(Form):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(PeriodicTasks):
    form = ThemedForm
    date_hierarchy = None


class IntervalForm(RowForm):
    """An interval that can be followed."""

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if not self.errors:
            _checked(lambda: times.step(IntervalSchedule(every=data["every"], period=data["period"])))
        return data


class CrontabForm(RowForm):
    """A line that comes."""

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if not self.errors:
            zone = ZoneInfo(str(data["timezone"]))
            line = times.line(CrontabSchedule(**{name: data[name] for name in CRONTAB}))
            _checked(lambda: times.cron(line, zone, timezone.now()))
        return data


def _checked(check: Callable[[], Any]) -> None:
    try:
        check()
    except ValueError as error:
        raise forms.ValidationError(str(error)) from None


@admin.register(SolarSchedule)
class PlainSchedules(Schedules):
    pass


@admin.register(IntervalSchedule)
class IntervalSchedules(Schedules):
    form = IntervalForm


@admin.register(ClockedSchedule)
class ClockedSchedules(Schedules):
    fields = ("clocked_time",)


@admin.register(CrontabSchedule)
class CrontabSchedules(Schedules):
    form = CrontabForm
    list_display = ("__str__", "human_readable")
    fields = ("human_readable", "minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")
    readonly_fields = ("human_readable",)
