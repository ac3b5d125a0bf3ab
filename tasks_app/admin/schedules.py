"""Schedules of recurring tasks: made and changed here, paused, run now; their next five fires, and their history."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from tasks_app.a2a.errors import A2AError
from tasks_app.admin import looks, search
from tasks_app.admin.actions import PAGE as TASK_PAGE
from tasks_app.admin.base import Admin, ReadOnlyAdmin, audit, confirmation, detail_action, may
from tasks_app.admin.filters import BeforeFilter
from tasks_app.admin.paginator import CappedList
from tasks_app.authentication import Caller
from tasks_app.models import Fire, Schedule
from tasks_app.schedules import asked, fire, times

if TYPE_CHECKING:
    ScheduleModelForm = forms.ModelForm[Schedule]
else:
    ScheduleModelForm = forms.ModelForm

LIST = "admin:tasks_app_schedule_changelist"
PAGE = "admin:tasks_app_schedule_change"
FIRES = "admin:tasks_app_fire_changelist"
COLOURS = {
    "started": "completed",
    "skipped": "cancelled",
    "queued": "pending",
    "missed": "rejected",
    "failed": "failed",
}


class ScheduleForm(ScheduleModelForm):
    """Checked as the REST door checks it."""

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if "name" in data:
            self._checked("name", lambda: asked.name(data["name"]))
        if sum(data.get(kind) is not None for kind in asked.KINDS) != 1:
            raise ValidationError(f"There must be exactly one of {', '.join(asked.KINDS)}.")
        if data.get("client") and data.get("task") is not None:
            owner = data["client"]
            self._checked("task", lambda: asked.task(data["task"], Caller(owner.pk, owner.name)))
        return data

    def _post_clean(self) -> None:
        """The next fire, by the row that the form has made."""
        super()._post_clean()  # type: ignore[misc]
        if not self.errors and self.has_another_time:
            self.instance.created_at = self.instance.created_at or fire.clock()
            self._checked(None, lambda: asked.first(self.instance, fire.clock()))

    @property
    def has_another_time(self) -> bool:
        return self.instance._state.adding or bool(set(self.changed_data) & set(asked.KINDS))

    def _checked(self, field: str | None, check: Callable[[], Any]) -> None:
        try:
            check()
        except A2AError as error:
            self.add_error(field, error.message)


@admin.register(Schedule)
class ScheduleAdmin(Admin):
    """Operating one needs ``change_schedule``."""

    form = ScheduleForm
    list_display = ("name", "client", "agent", "when", "standing", "next_fire", "last")
    list_filter = (("overlap", ChoicesDropdownFilter), ("catch_up", ChoicesDropdownFilter))
    list_select_related = ("client", *asked.KINDS)
    search_fields = ("name",)
    ordering = ("client", "name")
    sortable_by = ()
    actions_detail = ["pause", "resume", "run_now"]

    def get_fields(self, request: HttpRequest, obj: Schedule | None = None) -> tuple[str, ...]:
        own = ("name", "client", "task", *asked.KINDS, "overlap", "catch_up", "jitter_s")
        return own if obj is None else (*own, "standing", "upcoming", "history")

    def get_readonly_fields(self, request: HttpRequest, obj: Schedule | None = None) -> tuple[str, ...]:
        return () if obj is None else ("standing", "upcoming", "history")

    def save_model(self, request: HttpRequest, obj: Schedule, form: ScheduleForm, change: bool) -> None:
        """Writes only what the form changed, under the lock: it may have fired, or been paused, meanwhile."""
        with transaction.atomic():
            if change:
                fire.locked(obj.pk)
            if form.has_another_time:
                obj.next_at = times.first(obj, fire.clock())
            columns = [*form.changed_data, *(["next_at"] if form.has_another_time else [])]
            obj.save(update_fields=columns if change else None)
            fire.forget_queue(obj)

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Under the lock of the row: a fire may be being entered."""
        self.delete_queryset(request, Schedule.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        with transaction.atomic():
            for schedule in queryset.select_for_update(of=("self",)).order_by("pk"):
                schedule.delete()

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_schedule")

    @detail_action(description="Pause", permission="operate", icon="pause", danger=False)
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then pauses."""
        note = "It fires no more until it is resumed. What passes meanwhile is not made good."
        return self._confirmed(request, object_id, "Pause", note, fire.pause, "Paused.")

    @detail_action(description="Resume", permission="operate", icon="play_arrow", danger=False)
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then resumes."""
        return self._confirmed(request, object_id, "Resume", "It fires again from now on.", fire.resume, "Resumed.")

    @detail_action(description="Run now", permission="operate", icon="bolt", danger=False)
    def run_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then makes a task."""
        note = "Its task is made now, whether it is paused and whatever still runs."
        return self._confirmed(request, object_id, "Run now", note, fire.run_now, "Run by hand.")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """The buttons that fit it as it stands."""
        schedule = Schedule.objects.filter(pk=search.exact_id(object_id)).first()
        if schedule is None:
            return []
        buttons: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        return [button for button in buttons if button.path != ("resume" if schedule.paused_at is None else "pause")]

    def _confirmed(
        self, request: HttpRequest, object_id: str, verb: str, note: str, act: Callable[[Schedule], Any], did: str
    ) -> HttpResponse:
        schedule = self.get_object(request, object_id)
        if schedule is None:
            return redirect(LIST)
        back = reverse(PAGE, args=[schedule.pk])
        if request.method != "POST":
            title = f"{verb}: {schedule.name}"
            return confirmation(request, self, title=title, submit=verb, back=back, danger=False, notes=[note])
        try:
            done = act(schedule)
        except Schedule.DoesNotExist:
            return redirect(LIST)
        if isinstance(done, Fire) and done.outcome == Fire.Outcome.FAILED:
            messages.error(request, done.reason)
        elif done:
            audit(request, [schedule], did)
            messages.success(request, did)
        else:
            messages.warning(request, "Nothing changed: it was so before.")
        return redirect(back)

    @admin.display(description="agent")
    def agent(self, schedule: Schedule) -> str:
        return str(schedule.task.get("agent", looks.NOTHING))

    @admin.display(description="when")
    def when(self, schedule: Schedule) -> str:
        return str(next(getattr(schedule, kind) for kind in asked.KINDS if getattr(schedule, kind) is not None))

    @admin.display(description="state")
    def standing(self, schedule: Schedule) -> SafeString:
        if schedule.paused_at is not None:
            return looks.label("paused", "input_required")
        return looks.label("ended", "completed") if schedule.next_at is None else looks.label("on", "running")

    @admin.display(description="next fire")
    def next_fire(self, schedule: Schedule) -> SafeString | str:
        return looks.NOTHING if schedule.paused_at else looks.when(schedule.next_at)

    @admin.display(description="last fire")
    def last(self, schedule: Schedule) -> SafeString | str:
        found = schedule.fires.first()
        return looks.NOTHING if found is None else looks.label(found.outcome, COLOURS[found.outcome])

    @admin.display(description="next five fires")
    def upcoming(self, schedule: Schedule) -> SafeString | str:
        rows = [(looks.when(at), f"{at:%Y-%m-%d %H:%M:%S}") for at in times.upcoming(schedule)]
        return format_html_join("", "<p>{} ({} UTC)</p>", rows) if rows else looks.NOTHING

    @admin.display(description="history")
    def history(self, schedule: Schedule) -> SafeString:
        return format_html('<a class="a2a-link" href="{}?schedule__id__exact={}">show</a>', reverse(FIRES), schedule.pk)


@admin.register(Fire)
class FireAdmin(CappedList, ReadOnlyAdmin):
    list_display = ("instant", "schedule", "standing", "made", "is_manual", "reason")
    list_display_links = None
    list_filter = (("schedule", admin.RelatedOnlyFieldListFilter), ("outcome", ChoicesDropdownFilter), BeforeFilter)
    list_filter_submit = True
    list_select_related = ("schedule",)
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Fire]:
        return Fire.objects.all()

    @admin.display(description="instant")
    def instant(self, row: Fire) -> SafeString | str:
        return looks.when(row.at)

    @admin.display(description="outcome")
    def standing(self, row: Fire) -> SafeString:
        return looks.label(row.outcome, COLOURS[row.outcome])

    @admin.display(description="task")
    def made(self, row: Fire) -> SafeString | str:
        if row.task_id is None:
            return looks.NOTHING
        text = str(row.task_id)
        return format_html('<a class="a2a-id a2a-link" href="{}">{}…</a>', reverse(TASK_PAGE, args=[text]), text[:13])
