"""Tasks: the list, and the page of one. Both only read; what can be done to them stands in ``verbs.py``."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter

from tasks_app.admin import looks, page, search
from tasks_app.admin.actions import TaskActions
from tasks_app.admin.base import may
from tasks_app.admin.dead_letters import DeadLetterAdmin
from tasks_app.admin.filters import AgentFilter, BeforeFilter, CreatedFilter
from tasks_app.admin.paginator import CappedList
from tasks_app.models import Task
from tasks_app.status import TaskStatus


@admin.register(Task)
class TaskAdmin(CappedList, TaskActions):
    list_display = ("label", "state", "agent", "client", "urgency", "done", "attempts", "created", "duration")
    list_display_links = ("label",)
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("priority", ChoicesDropdownFilter),
        AgentFilter,
        ("client", AutocompleteSelectFilter),
        ("lane", ChoicesDropdownFilter),
        CreatedFilter,
        BeforeFilter,
    )
    list_filter_submit = True
    list_fullwidth = True
    list_select_related = ("client",)
    list_per_page = 50
    list_before_template = "tasks_app/admin/states.html"
    #: Only makes the box appear; ``get_search_results`` does the work.
    search_fields = ("agent",)
    search_help_text = "id, context, agent or state:failed client:…"
    change_form_template = "tasks_app/admin/task.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return Task.objects.defer("status_message", "error")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        return queryset.filter(search.query(search_term)), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"title": "Tasks", "states": _states(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        task = self.get_object(request, object_id)
        if task is None or not self.has_view_permission(request, task):
            return super().change_view(request, object_id, form_url, extra_context)
        shown = page.context(task, with_artifacts=may(request, "artifacts_app.view_artifact"))
        title = {"title": task.agent, "subtitle": None}
        return super().change_view(request, object_id, form_url, {**shown, **title, **(extra_context or {})})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Task | None:
        return Task.objects.select_related("client", "request").filter(pk=search.exact_id(object_id)).first()

    def get_fieldsets(self, request: HttpRequest, obj: Task | None = None) -> list[Any]:
        """None: the page is a template of its own."""
        return []

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(DeadLetterAdmin(Task, self.admin_site).changelist_view)
        return [path("dead-letters/", view, name="tasks_app_task_dead_letters"), *super().get_urls()]

    @admin.display(description="task")
    def label(self, task: Task) -> SafeString:
        text = str(task.id)
        return format_html('<span class="a2a-id" title="{}">{}…{}</span>', text, text[:13], text[-4:])

    @admin.display(description="state")
    def state(self, task: Task) -> SafeString:
        return _live(task, "state", looks.state(task.status))

    @admin.display(description="priority")
    def urgency(self, task: Task) -> SafeString:
        return looks.priority(task.priority)

    @admin.display(description="progress")
    def done(self, task: Task) -> SafeString:
        return _live(task, "done", looks.bar(task.progress, task.status))

    @admin.display(description="attempts")
    def attempts(self, task: Task) -> SafeString:
        return _live(task, "attempts", looks.attempts(task))

    @admin.display(description="created")
    def created(self, task: Task) -> SafeString:
        return _live(task, "created", looks.when(task.created_at))

    @admin.display(description="duration")
    def duration(self, task: Task) -> SafeString:
        ran_s = looks.between(task.started_at, task.completed_at or timezone.now())
        return _live(task, "duration", looks.span(ran_s))


def _live(task: Task, name: str, value: str) -> SafeString:
    """A cell that the page keeps up to date while the task has not ended."""
    if looks.ended(task.status):
        return format_html('<span data-live="{}-{}">{}</span>', task.id, name, value)
    return format_html('<span data-live="{}-{}" data-live-open>{}</span>', task.id, name, value)


def _states(request: HttpRequest) -> list[dict[str, Any]]:
    """The row of states above the list: each a link that keeps the other filters."""
    chosen = request.GET.get("status__exact", "")
    made = []
    for status in ("", *TaskStatus.values):
        params = request.GET.copy()
        for name in ("status__exact", "p", "before", "e"):
            params.pop(name, None)
        if status:
            params["status__exact"] = status
        made.append(
            {
                "status": status,
                "name": looks.words(status) or "all",
                "url": f"?{params.urlencode()}",
                "on": status == chosen,
            }
        )
    return made
