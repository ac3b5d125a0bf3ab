"""Workers as they announce themselves: lane, slots, capacity, agents, what runs, age of the last heartbeat."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tasks_app import overview
from tasks_app.admin import looks
from tasks_app.admin.base import ReadOnlyAdmin
from tasks_app.models import TaskAttempt, Worker

COLOURS = {"online": "completed", "draining": "input_required", "offline": "cancelled", overview.SILENT: "failed"}
AGENTS_MAX = 4
#: As many of what runs on a worker are listed, the oldest first.
RUNNING_MAX = 200


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "standing", "load", "capacity", "runs", "hostname", "pid", "started", "heartbeat")
    list_filter = ("lane", "state")
    list_fullwidth = True
    search_fields = ("name", "hostname")
    ordering = ("name",)
    sortable_by = ("heartbeat", "started")
    change_form_template = "tasks_app/admin/worker.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        running = TaskAttempt.objects.filter(worker=OuterRef("name"), released_at=None).order_by()
        count = running.values("worker").annotate(count=Count("id")).values("count")
        return Worker.objects.annotate(running=Coalesce(Subquery(count, output_field=IntegerField()), 0))

    def get_fieldsets(self, request: HttpRequest, obj: Worker | None = None) -> list[Any]:
        """None: the page is a template of its own."""
        return []

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        worker = self.get_object(request, object_id)
        context: dict[str, Any] = {"subtitle": None, **(extra_context or {})}
        if worker is not None:
            attempts = _attempts(worker)
            context |= {"title": worker.name, "facts": self._facts(worker), "agents": worker.agents}
            context |= {"attempts": attempts, "hidden": worker.running - len(attempts)}
            context |= {"is_live": worker.state != Worker.State.OFFLINE}
        return super().change_view(request, object_id, form_url, context)

    def _facts(self, worker: Worker) -> list[tuple[str, Any]]:
        return [
            ("state", self.standing(worker)),
            ("lane", worker.lane),
            ("slots taken", self.load(worker)),
            ("memory", _megabytes(worker.memory_mb)),
            ("cores", f"{worker.cores:g}" if worker.cores else looks.NOTHING),
            ("scratch disk", _megabytes(worker.disk_mb)),
            ("host", worker.hostname),
            ("pid", worker.pid),
            ("started", looks.when(worker.started_at)),
            ("last heartbeat", looks.when(worker.heartbeat_at)),
        ]

    @admin.display(description="lane")
    def kind(self, worker: Worker) -> str:
        return worker.lane

    @admin.display(description="state")
    def standing(self, worker: Worker) -> SafeString:
        state = overview.state_of(worker)
        return looks.label(state, COLOURS[state])

    @admin.display(description="slots taken")
    def load(self, worker: Worker) -> str:
        return f"{worker.running} of {worker.slots}"  # type: ignore[attr-defined]  # annotated by get_queryset

    @admin.display(description="capacity")
    def capacity(self, worker: Worker) -> str:
        said = [_megabytes(worker.memory_mb) if worker.memory_mb else ""]
        said.append(f"{worker.cores:g} cores" if worker.cores else "")
        said.append(f"{_megabytes(worker.disk_mb)} disk" if worker.disk_mb else "")
        return ", ".join(text for text in said if text) or looks.NOTHING

    @admin.display(description="agents")
    def runs(self, worker: Worker) -> SafeString | str:
        if not worker.agents:
            return "any"
        names = format_html_join(", ", "{}", ((name,) for name in worker.agents[:AGENTS_MAX]))
        rest = len(worker.agents) - AGENTS_MAX
        title = ", ".join(worker.agents)
        return format_html('<span title="{}">{} and {} more</span>', title, names, rest) if rest > 0 else names

    @admin.display(description="started", ordering="started_at")
    def started(self, worker: Worker) -> SafeString | str:
        return looks.when(worker.started_at)

    @admin.display(description="last heartbeat", ordering="heartbeat_at")
    def heartbeat(self, worker: Worker) -> SafeString | str:
        return looks.when(worker.heartbeat_at)


def _attempts(worker: Worker) -> list[dict[str, Any]]:
    """What holds its slots, by attempt_unreleased_idx."""
    now = timezone.now()
    held = TaskAttempt.objects.filter(worker=worker.name, released_at=None).select_related("task")
    return [
        {
            "attempt": attempt,
            "task": attempt.task,
            "bar": looks.bar(attempt.task.progress, attempt.task.status),
            "runs": looks.span(looks.between(attempt.claimed_at, now)),
            "lease": looks.when(attempt.lease_expires_at, now=now),
            "outcome": looks.outcome(attempt.outcome),
            "stopping": attempt.ended_at is not None,
        }
        for attempt in held.defer("traceback", "task__status_message").order_by("claimed_at")[:RUNNING_MAX]
    ]


def _megabytes(size_mb: int) -> str:
    """Mebibytes, as they were announced."""
    if not size_mb:
        return looks.NOTHING
    return f"{size_mb / 1024:.1f} GiB" if size_mb >= 1024 else f"{size_mb} MiB"
