"""Doing something to one task or many from the admin: asked back with the count, done by ``control``, put on record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from tasks_app.admin import looks, search, verbs
from tasks_app.admin.base import ReadOnlyAdmin, audit, back_from, confirmation, detail_action, may
from tasks_app.admin.verbs import Verb
from tasks_app.models import Task

#: As many tasks are changed by one confirmation; more need another.
TASKS_MAX = 1000
LINES_MAX = 20
LIST = "admin:tasks_app_task_changelist"
PAGE = "admin:tasks_app_task_change"


class TaskActions(ReadOnlyAdmin):
    """The buttons and the bulk actions. A user needs ``tasks_app.change_task``."""

    actions = ["cancel_selected", "priority_selected", "rerun_selected"]
    actions_detail = ["cancel_task", "priority_task", "now_task", "later_task", "rerun_task"]

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_task")

    @detail_action(description="Cancel", permission="operate", icon="block")
    def cancel_task(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask_one(request, verbs.CANCEL, object_id)

    @detail_action(description="Change priority", permission="operate", icon="swap_vert", danger=False)
    def priority_task(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask_one(request, verbs.PRIORITY, object_id)

    @detail_action(description="Run now", permission="operate", icon="play_arrow", danger=False)
    def now_task(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask_one(request, verbs.NOW, object_id)

    @detail_action(description="Run later", permission="operate", icon="schedule", danger=False)
    def later_task(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask_one(request, verbs.LATER, object_id)

    @detail_action(description="Run again", permission="operate", icon="replay", danger=False)
    def rerun_task(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask_one(request, verbs.RERUN, object_id)

    @admin.action(description="Cancel selected tasks", permissions=["operate"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        return self._ask_many(request, verbs.CANCEL, queryset)

    @admin.action(description="Change priority of selected tasks", permissions=["operate"])
    def priority_selected(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        return self._ask_many(request, verbs.PRIORITY, queryset)

    @admin.action(description="Run selected tasks again", permissions=["operate"])
    def rerun_selected(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        return self._ask_many(request, verbs.RERUN, queryset)

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """The buttons that fit the task as it stands."""
        task = Task.objects.filter(pk=search.exact_id(object_id)).only("status", "run_after").first()
        if task is None:
            return []
        waits_for_time = task.run_after > timezone.now()
        fitting = {
            f"{verb.name}_task"
            for verb in verbs.VERBS.values()
            if task.status in verb.statuses and (verb is not verbs.NOW or waits_for_time)
        }
        buttons: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        return [button for button in buttons if button.path in fitting]

    def get_urls(self) -> list[URLPattern]:
        """One address for each verb, to which its confirmation posts."""
        made = [
            path(f"{name}/", self.admin_site.admin_view(self._view(verb)), name=f"tasks_app_task_{name}")
            for name, verb in verbs.VERBS.items()
        ]
        return [*made, *super().get_urls()]

    def _view(self, verb: Verb) -> Any:
        def view(request: HttpRequest) -> HttpResponse:
            return self._confirmed(request, verb)

        return view

    def _ask_one(self, request: HttpRequest, verb: Verb, object_id: str) -> HttpResponse:
        task = Task.objects.filter(pk=search.exact_id(object_id)).first()
        if task is None:
            return redirect(LIST)
        back = reverse(PAGE, args=[task.id])
        if task.status not in verb.statuses:
            messages.warning(request, f"The task has {verb.unfit}: it is {looks.words(task.status)}.")
            return redirect(back)
        return self._ask(request, verb, [task], back=back)

    def _ask_many(self, request: HttpRequest, verb: Verb, queryset: QuerySet[Task]) -> HttpResponse | None:
        fitting = list(queryset.filter(status__in=verb.statuses)[: TASKS_MAX + 1])
        unfit = queryset.exclude(status__in=verb.statuses)[: TASKS_MAX + 1].count()
        if not fitting:
            messages.warning(request, f"{verb.nothing} {verb.left.format(_tasks(unfit))}")
            return None
        more = len(fitting) > TASKS_MAX
        return self._ask(request, verb, fitting[:TASKS_MAX], back=request.get_full_path(), unfit=unfit, more=more)

    def _ask(
        self,
        request: HttpRequest,
        verb: Verb,
        tasks: Sequence[Task],
        *,
        back: str,
        unfit: int = 0,
        more: bool = False,
        form: forms.Form | None = None,
    ) -> HttpResponse:
        """The page that asks back: what would be done, to how many tasks, to which."""
        what = verb.ask.format(_tasks(len(tasks)))
        notes = [f"{what}? {verb.note}"]
        if unfit:
            notes.append(f"{_tasks(unfit)} of the selection {_have(unfit)} {verb.unfit} and {_stay(unfit)} as is.")
        if more:
            notes.append(f"These are the first {TASKS_MAX} of the list; more match. Repeat it for the next.")
        if verb.makes and (before := Task.objects.filter(id__in=_ids(tasks), reruns__isnull=False).distinct().count()):
            notes.append(f"{_tasks(before)} of these {_have(before)} been run again before.")
        fields = {"ids": ",".join(map(str, _ids(tasks))), "unfit": str(unfit), "back": back}
        return confirmation(
            request,
            self,
            title=what,
            submit=what,
            back=back,
            danger=verb.danger,
            post_to=reverse(f"admin:tasks_app_task_{verb.name}"),
            fields=fields,
            form=form or (verb.form(initial={"priority": tasks[0].priority}) if verb.form else None),
            notes=notes,
            tasks=[_line(task) for task in tasks[:LINES_MAX]],
            hidden=max(len(tasks) - LINES_MAX, 0),
        )

    def _confirmed(self, request: HttpRequest, verb: Verb) -> HttpResponse:
        """Does it to the tasks whose ids the confirmation posts, and says how many were not as they had been."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_operate_permission(request):
            raise PermissionDenied
        try:
            task_ids = list(dict.fromkeys(UUID(item) for item in request.POST.get("ids", "").split(",")))
        except ValueError:
            return HttpResponseBadRequest("ids: must be task ids, separated by commas")
        if len(task_ids) > TASKS_MAX:
            return HttpResponseBadRequest(f"ids: at most {TASKS_MAX}")
        back = back_from(request, reverse(PAGE, args=task_ids) if len(task_ids) == 1 else reverse(LIST))
        unfit = _count(request.POST.get("unfit", ""))
        form = verb.form(request.POST) if verb.form else None
        if form is not None and not form.is_valid():
            tasks = list(Task.objects.filter(id__in=task_ids))
            return self._ask(request, verb, tasks, back=back, unfit=unfit, form=form)
        done = verb.run(task_ids, form.cleaned_data if form else {}, f"admin {request.user.get_username()}")
        self._report(request, verb, done, len(task_ids) - len(done) + unfit)
        return redirect(PAGE, done[0]) if verb.makes and len(done) == len(task_ids) == 1 else redirect(back)

    def _report(self, request: HttpRequest, verb: Verb, done: Sequence[UUID], unfit: int) -> None:
        rest = f" {verb.left.format(_tasks(unfit))}" if unfit else ""
        if not done:
            messages.warning(request, f"{verb.nothing}{rest}")
            return
        said = verb.did.format(_tasks(len(done), "new task" if verb.makes else "task"))
        audit(request, Task.objects.filter(id__in=done), said)
        messages.success(request, f"{said}{rest}")


def _ids(tasks: Iterable[Task]) -> list[UUID]:
    return [task.id for task in tasks]


def _line(task: Task) -> dict[str, object]:
    return {
        "id": task.id,
        "agent": task.agent,
        "state": looks.state(task.status),
        "priority": looks.priority(task.priority),
        "created": looks.when(task.created_at),
    }


def _tasks(count: int, noun: str = "task") -> str:
    if count > TASKS_MAX:
        return f"More than {TASKS_MAX} {noun}s"
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _stay(count: int) -> str:
    return "stays" if count == 1 else "stay"


def _count(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else 0
