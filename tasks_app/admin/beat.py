"""django-celery-beat's own pages in our theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django_celery_beat import admin as beat
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

if TYPE_CHECKING:

    class TaskSelect:
        """Unfold's select over the registered jobs."""

    class Form(forms.ModelForm[Any]):
        """Beat's form."""

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


@admin.register(IntervalSchedule, SolarSchedule)
class PlainSchedules(Schedules):
    pass


@admin.register(ClockedSchedule)
class ClockedSchedules(Schedules):
    fields = ("clocked_time",)


@admin.register(CrontabSchedule)
class CrontabSchedules(Schedules):
    list_display = ("__str__", "human_readable")
    fields = ("human_readable", "minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")
    readonly_fields = ("human_readable",)
