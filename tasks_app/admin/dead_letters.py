"""Dead letters: the tasks that failed, the latest first, with why; and running them again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.functions import Right
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter

from tasks_app.admin import looks, search
from tasks_app.admin.actions import PAGE, TaskActions
from tasks_app.admin.filters import AgentFilter, EndedBeforeFilter, EndedFilter
from tasks_app.admin.paginator import CappedList
from tasks_app.models import Task, TaskAttempt
from tasks_app.status import TaskStatus

#: As many characters of a traceback, from its end, where the reason stands.
TRACEBACK_MAX_CHARS = 4_000
RERUNS_MAX = 3


class DeadLetterAdmin(CappedList, TaskActions):
    """A second list of the tasks, not of a model of its own; ``TaskAdmin`` gives it its address."""

    list_display = ("label", "agent", "client", "urgency", "ended", "attempts", "why", "reruns")
    list_display_links = ("label",)
    list_filter = (
        AgentFilter,
        ("client", AutocompleteSelectFilter),
        ("priority", ChoicesDropdownFilter),
        EndedFilter,
        EndedBeforeFilter,
    )
    list_filter_submit = True
    list_fullwidth = True
    list_select_related = ("client",)
    list_per_page = 50
    list_before_template = "tasks_app/admin/dead_letters.html"
    ordering = ("-completed_at", "-id")
    actions = ["rerun_selected"]
    actions_detail = []
    search_fields = ("agent",)
    search_help_text = "id, context, agent or client:…"

    def key_of(self, row: Task) -> str:
        assert row.completed_at is not None  # noqa: S101 (the list holds what has ended)
        return f"{row.completed_at.isoformat()}~{row.pk}"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """By task_ended_idx, which the condition on ``completed_at`` names."""
        newest = TaskAttempt.objects.filter(task=OuterRef("pk")).order_by("-epoch")
        again = Task.objects.only("id", "status", "rerun_of").order_by("-id")
        return (
            Task.objects.filter(status=TaskStatus.FAILED, completed_at__isnull=False)
            .defer("status_message")
            .annotate(traceback=Subquery(newest.values(tail=Right("traceback", TRACEBACK_MAX_CHARS))[:1]))
            .prefetch_related(Prefetch("reruns", queryset=again, to_attr="again"))
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        return queryset.filter(search.query(search_term)), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Dead letters", **(extra_context or {})})

    @admin.display(description="task")
    def label(self, task: Task) -> SafeString:
        text = str(task.id)
        return format_html('<span class="a2a-id a2a-nowrap" title="{}">{}…{}</span>', text, text[:13], text[-4:])

    @admin.display(description="priority")
    def urgency(self, task: Task) -> SafeString:
        return looks.priority(task.priority)

    @admin.display(description="ended")
    def ended(self, task: Task) -> SafeString | str:
        return looks.when(task.completed_at)

    @admin.display(description="attempts")
    def attempts(self, task: Task) -> SafeString:
        return looks.attempts(task)

    @admin.display(description="last error")
    def why(self, task: Task) -> SafeString:
        error = task.error or {}
        traceback: str = task.traceback or ""  # type: ignore[attr-defined]  # annotated by get_queryset
        head = format_html("<b>{}</b> {}", error.get("code", ""), error.get("message", ""))
        folded = (
            format_html('<details><summary>traceback</summary><pre class="a2a-code">{}</pre></details>', traceback)
            if traceback
            else ""
        )
        return format_html('<div class="a2a a2a-why">{}{}</div>', head, folded)

    @admin.display(description="run again as")
    def reruns(self, task: Task) -> SafeString | str:
        made: list[Task] = task.again  # type: ignore[attr-defined]  # prefetched by get_queryset
        if not made:
            return looks.NOTHING
        links = format_html_join(
            " ",
            '<a href="{}" title="{}">{}</a>',
            ((reverse(PAGE, args=[other.id]), other.id, looks.state(other.status)) for other in made[:RERUNS_MAX]),
        )
        rest = len(made) - RERUNS_MAX
        return format_html("{} and {} more", links, rest) if rest > 0 else links
