"""Lanes, queues and agents: what waits and runs in each, and its pause and limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminIntegerFieldWidget

from tasks_app import control, overview
from tasks_app.admin import looks
from tasks_app.admin.base import ReadOnlyAdmin, audit, confirmation, may
from tasks_app.control import LIMITS, Scope
from tasks_app.models import QueueControl

LIST = "admin:tasks_app_queuecontrol_changelist"
TITLES = {Scope.LANE: "Lanes", Scope.QUEUE: "Queues", Scope.AGENT: "Agents"}
PAUSE_NOTE = "Nothing more of it starts, and what was handed to the broker is taken back. What runs is finished."
RESUME_NOTE = "What waited starts again, the most urgent first."
BREAKERS = {"open": ("circuit open", "failed"), "half_open": ("circuit half open", "input_required")}
BIGGEST = 2**31 - 1


class LimitsForm(forms.Form):
    """The limits of a lane or an agent; empty is none of the operator's."""

    max_running = forms.IntegerField(
        label="At most so many at once",
        required=False,
        min_value=1,
        max_value=BIGGEST,
        help_text="Empty: as the agent declares, else as many as there are slots.",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    dispatch_rate_per_s = forms.FloatField(
        label="At most so many per second",
        required=False,
        min_value=0.001,
        max_value=1e6,
        help_text="Empty: as the agent declares, else as fast as they go.",
        widget=UnfoldAdminDecimalFieldWidget,
    )

    def __init__(self, scope: Scope, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in set(self.fields) - set(LIMITS[scope]):
            del self.fields[name]
        if scope == Scope.LANE:
            self.fields["max_running"].help_text = "Empty: as many as there are slots."


@admin.register(QueueControl)
class QueueAdmin(ReadOnlyAdmin):
    """Not the rows, which exist only where something is set, but all there is.

    Changing anything needs ``change_queuecontrol``.
    """

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return may(request, "tasks_app.change_queuecontrol")

    def get_urls(self) -> list[URLPattern]:
        def of(view: Callable[..., HttpResponse], name: str) -> URLPattern:
            address = f"<slug:scope>/<str:name>/{name}/"
            return path(address, self.admin_site.admin_view(view), name=f"tasks_app_queuecontrol_{name}")

        lists = [url for url in super().get_urls() if url.name == "tasks_app_queuecontrol_changelist"]
        return [of(self.pause, "pause"), of(self.resume, "resume"), of(self.limits, "limits"), *lists]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = timezone.now()
        lines = overview.queues()
        sections = [
            {
                "title": title,
                "scope": scope.value,
                "lines": [_shown(line, now) for line in lines if line.scope == scope],
            }
            for scope, title in TITLES.items()
        ]
        context = {
            **self.admin_site.each_context(request),
            "title": "Queues",
            "content_title": "Queues",
            "sections": sections,
            "operates": self.has_operate_permission(request),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "tasks_app/admin/queues.html", context)

    def pause(self, request: HttpRequest, scope: str, name: str) -> HttpResponse:
        """Asks, then pauses."""
        return self._switch(request, scope, name, control.pause, "Pause", "paused", PAUSE_NOTE)

    def resume(self, request: HttpRequest, scope: str, name: str) -> HttpResponse:
        """Asks, then resumes."""
        return self._switch(request, scope, name, control.resume, "Resume", "resumed", RESUME_NOTE)

    def limits(self, request: HttpRequest, scope: str, name: str) -> HttpResponse:
        """Shows the limits of a lane or an agent, and sets what is posted."""
        where = self._checked(request, scope, name)
        if not LIMITS.get(where):
            raise Http404(f"a {where.value} has no limits")
        row = QueueControl.objects.filter(scope=where.value, name=name).first()
        standing = {field: getattr(row, field, None) for field in LIMITS[where]}
        form = LimitsForm(where, request.POST or None, initial=standing)
        if request.method == "POST" and form.is_valid():
            changed = control.limit(where, name, **form.cleaned_data)
            said = ", ".join(f"{key} {value}" for key, value in form.cleaned_data.items())
            self._told(request, where, name, changed, f"Set the limits of {where.value} {name}: {said}.")
            return redirect(LIST)
        title = f"Limits of {where.value} {name}"
        note = "They count over all workers. What runs above a lower limit is finished."
        return self._confirm(request, title=title, submit="Set", danger=False, form=form, notes=[note])

    def _switch(
        self,
        request: HttpRequest,
        scope: str,
        name: str,
        switch: Callable[[Scope, str], bool],
        verb: str,
        did: str,
        note: str,
    ) -> HttpResponse:
        where = self._checked(request, scope, name)
        what = f"{where.value} {name}"
        if request.method != "POST":
            title, notes = f"{verb} {what}", [f"{verb} {what}? {note}"]
            return self._confirm(request, title=title, submit=title, danger=verb == "Pause", notes=notes)
        self._told(request, where, name, switch(where, name), f"{did.capitalize()} {what}.")
        return redirect(LIST)

    def _confirm(self, request: HttpRequest, **page: Any) -> HttpResponse:
        return confirmation(request, self, back=reverse(LIST), opts=None, content_title="Queues", **page)

    def _checked(self, request: HttpRequest, scope: str, name: str) -> Scope:
        """The scope, if there is such a lane, queue or agent, and the user may change it."""
        if not self.has_operate_permission(request):
            raise PermissionDenied
        if scope not in {known.value for known in TITLES} or name not in control.names(Scope(scope)):
            raise Http404(f"no {scope} '{name}'")
        return Scope(scope)

    def _told(self, request: HttpRequest, scope: Scope, name: str, changed: bool, text: str) -> None:
        if not changed:
            messages.info(request, f"Nothing changed: {scope.value} {name} stood so before.")
            return
        audit(request, QueueControl.objects.filter(scope=scope.value, name=name), text)
        messages.success(request, text)


def _shown(line: overview.Line, now: Any) -> dict[str, Any]:
    return {
        "line": line,
        "waiting": f"{line.waiting:,}{'+' if line.more else ''}",
        "oldest": looks.span(line.oldest_s),
        "state": _state(line),
        "since": looks.when(line.paused_at, now=now) if line.paused_at else "",
        "rate": "" if line.dispatch_rate_per_s is None else f"{line.dispatch_rate_per_s:g}/s",
        "limits": bool(LIMITS.get(line.scope)),
        # An agent that is gone and for which nothing is set is only there for its tasks.
        "switches": line.is_known or line.paused_at is not None or line.is_set,
    }


def _state(line: overview.Line) -> Any:
    if line.paused_at:
        return looks.label("paused", "input_required")
    if line.is_lane_paused:
        return looks.label("lane paused", "input_required")
    if line.breaker in BREAKERS:
        return looks.label(*BREAKERS[line.breaker])
    if not line.is_known:
        return looks.label("not registered", "failed")
    return looks.label("open", "completed")
