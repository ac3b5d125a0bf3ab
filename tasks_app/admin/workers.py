"""Workers as they announce themselves: lane, slots, state, age of the last heartbeat."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks_app.admin import looks
from tasks_app.admin.base import ReadOnlyAdmin
from tasks_app.models import TaskAttempt, Worker

COLOURS = {"online": "completed", "draining": "input_required", "offline": "cancelled", "silent": "failed"}
#: A worker that has missed as many heartbeats is called silent.
MISSED_MAX = 3


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "standing", "load", "hostname", "pid", "started", "heartbeat")
    list_filter = ("lane", "state")
    search_fields = ("name", "hostname")
    ordering = ("name",)
    sortable_by = ("heartbeat", "started")
    fields = ("name", "kind", "standing", "load", "hostname", "pid", "started", "heartbeat")
    readonly_fields = ("kind", "standing", "load", "started", "heartbeat")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        running = TaskAttempt.objects.filter(worker=OuterRef("name"), released_at=None).order_by()
        count = running.values("worker").annotate(count=Count("id")).values("count")
        return Worker.objects.annotate(running=Coalesce(Subquery(count, output_field=IntegerField()), 0))

    @admin.display(description="lane")
    def kind(self, worker: Worker) -> str:
        return worker.lane

    @admin.display(description="state")
    def standing(self, worker: Worker) -> SafeString:
        silent_s = (timezone.now() - worker.heartbeat_at).total_seconds()
        late = silent_s > MISSED_MAX * settings.A2A_HEARTBEAT_S
        name = "silent" if late and worker.state != Worker.State.OFFLINE else str(worker.state)
        return format_html('<span class="a2a-label a2a-{}"><i></i>{}</span>', COLOURS[name], name)

    @admin.display(description="slots taken")
    def load(self, worker: Worker) -> str:
        return f"{worker.running} of {worker.slots}"  # type: ignore[attr-defined]  # annotated by get_queryset

    @admin.display(description="started", ordering="started_at")
    def started(self, worker: Worker) -> SafeString | str:
        return looks.when(worker.started_at)

    @admin.display(description="last heartbeat", ordering="heartbeat_at")
    def heartbeat(self, worker: Worker) -> SafeString | str:
        return looks.when(worker.heartbeat_at)
