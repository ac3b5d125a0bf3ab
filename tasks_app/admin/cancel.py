"""Cancelling from the admin: one task or many, asked back with the count, done by the engine's verb."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse

from tasks_app import engine, metrics
from tasks_app.admin import looks
from tasks_app.admin.base import ReadOnlyAdmin, confirmation, detail_action, may
from tasks_app.engine import Cancelled
from tasks_app.models import Task
from tasks_app.status import TERMINAL
from tasks_app.wakeups import Ring, bell, rings, worker_channel

#: As many tasks are cancelled by one confirmation; more need another.
CANCEL_MAX = 1000
#: As many in one transaction, so that no lock is held long.
CANCEL_BATCH = 200
LIST = "admin:tasks_app_task_changelist"
PAGE = "admin:tasks_app_task_change"


def cancel(task_ids: Sequence[UUID], *, by: str) -> list[Cancelled]:
    """Cancels those of the tasks that have not ended, and rings for whoever waits for them or runs them."""
    cancelled: list[Cancelled] = []
    for start in range(0, len(task_ids), CANCEL_BATCH):
        done = engine.run(engine.request_cancel, task_ids[start : start + CANCEL_BATCH], by=by)
        metrics.cancelled(done)
        bell.ring(_bells(done))
        cancelled += done
    return cancelled


class CancelActions(ReadOnlyAdmin):
    """The button and the bulk action. A user needs ``tasks_app.change_task``."""

    actions = ["cancel_selected"]
    actions_detail = ["cancel_task"]

    def has_cancel_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_task")

    @detail_action(description="Cancel", permission="cancel", icon="block")
    def cancel_task(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks whether to cancel this task."""
        task = self.get_object(request, object_id)
        if task is None:
            return redirect(LIST)
        if looks.ended(task.status):
            messages.warning(request, f"The task has ended already: it is {looks.words(task.status)}.")
            return redirect(PAGE, task.id)
        return self._confirm(request, [task], 0, back=reverse(PAGE, args=[task.id]))

    @admin.action(description="Cancel selected tasks", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        """Asks whether to cancel those of the selected tasks that have not ended."""
        still_open = list(queryset.exclude(status__in=TERMINAL).order_by("-id")[: CANCEL_MAX + 1])
        ended = queryset.filter(status__in=TERMINAL).order_by("-id")[: CANCEL_MAX + 1].count()
        if not still_open:
            messages.warning(request, f"Nothing to cancel: {_tasks(ended)} had ended already.")
            return None
        back = f"{reverse(LIST)}?{request.GET.urlencode()}"
        return self._confirm(request, still_open[:CANCEL_MAX], ended, back=back, more=len(still_open) > CANCEL_MAX)

    def cancel_confirmed(self, request: HttpRequest) -> HttpResponse:
        """Cancels the tasks whose ids the confirmation posts, and says how many had ended meanwhile."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_cancel_permission(request):
            raise PermissionDenied
        try:
            task_ids = [UUID(item) for item in request.POST.get("ids", "").split(",")]
        except ValueError:
            return HttpResponseBadRequest("ids: must be task ids, separated by commas")
        if len(task_ids) > CANCEL_MAX:
            return HttpResponseBadRequest(f"ids: at most {CANCEL_MAX}")
        done = len(cancel(task_ids, by=f"admin {request.user.get_username()}"))
        ended = len(set(task_ids)) - done + _count(request.POST.get("ended", ""))
        _report(request, done, ended)
        if len(task_ids) == 1 and "filters" not in request.POST:
            return redirect(PAGE, task_ids[0])
        return redirect(f"{reverse(LIST)}?{request.POST.get('filters', '')}")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.cancel_confirmed)
        return [path("cancel/", view, name="tasks_app_task_cancel"), *super().get_urls()]

    def _confirm(
        self, request: HttpRequest, tasks: Sequence[Task], ended: int, *, back: str, more: bool = False
    ) -> HttpResponse:
        fields = {"ids": ",".join(str(task.id) for task in tasks), "ended": str(ended)}
        if request.method == "POST":
            fields["filters"] = request.GET.urlencode()
        notes = [f"Cancel {_tasks(len(tasks))}? What runs is told to stop; what waits never starts. There is no undo."]
        if ended:
            notes.append(f"{_tasks(ended, CANCEL_MAX)} of the selection {_have(ended)} ended already and stay as is.")
        if more:
            notes.append(f"These are the newest {CANCEL_MAX}; more match. Cancel again for the next.")
        return confirmation(
            request,
            self,
            title=f"Cancel {_tasks(len(tasks))}",
            submit=f"Cancel {_tasks(len(tasks))}",
            back=back,
            post_to=reverse("admin:tasks_app_task_cancel"),
            fields=fields,
            notes=notes,
            tasks=[_line(task) for task in tasks[:20]],
            hidden=max(len(tasks) - 20, 0),
        )


def _bells(cancelled: Sequence[Cancelled]) -> list[Ring]:
    bells = [ring for item in cancelled for ring in rings(item.lane, [item.task_id])]
    return bells + [(worker_channel(name), "") for name in sorted({item.worker for item in cancelled} - {""})]


def _report(request: HttpRequest, done: int, ended: int) -> None:
    before = f" {_tasks(ended)} had ended already." if ended else ""
    if done:
        messages.success(request, f"Cancelled {_tasks(done)}.{before}")
    else:
        messages.warning(request, f"Nothing was cancelled.{before}")


def _line(task: Task) -> dict[str, object]:
    return {
        "id": task.id,
        "agent": task.agent,
        "state": looks.state(task.status),
        "created": looks.when(task.created_at),
    }


def _tasks(count: int, count_max: int | None = None) -> str:
    if count_max is not None and count > count_max:
        return f"More than {count_max} tasks"
    return f"{count} task" if count == 1 else f"{count} tasks"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _count(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else 0
