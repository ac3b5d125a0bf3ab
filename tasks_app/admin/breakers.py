"""Circuit breakers: which agents' tasks are held back, since when and why; and closing one by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks_app import control
from tasks_app.admin import looks
from tasks_app.admin.actions import PAGE as TASK_PAGE
from tasks_app.admin.base import ReadOnlyAdmin, audit, confirmation, detail_action, may
from tasks_app.models import Breaker

LIST = "admin:tasks_app_breaker_changelist"
PAGE = "admin:tasks_app_breaker_change"
COLOURS = {"closed": "completed", "open": "failed", "half_open": "input_required"}


@admin.register(Breaker)
class BreakerAdmin(ReadOnlyAdmin):
    """A row for each agent that declares a breaker. Closing one needs ``change_breaker``."""

    list_display = ("agent", "standing", "since", "why", "next_try", "trial")
    list_filter = ("state",)
    search_fields = ("agent",)
    ordering = ("agent",)
    sortable_by = ()
    fields = ("agent", "standing", "since", "why", "next_try", "trial")
    readonly_fields = ("standing", "since", "why", "next_try", "trial")
    actions_detail = ["close_now"]

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_breaker")

    @detail_action(description="Close the circuit", permission="operate", icon="lock_open", danger=False)
    def close_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then closes it."""
        breaker = self.get_object(request, object_id)
        if breaker is None:
            return redirect(LIST)
        title = f"Close the circuit of {breaker.agent}"
        if request.method != "POST":
            note = (
                "Its tasks are let through at once and the failures so far are forgotten."
                " It opens again if they go on failing."
            )
            back = reverse(PAGE, args=[breaker.pk])
            return confirmation(request, self, title=title, submit="Close now", back=back, danger=False, notes=[note])
        if control.close_breaker(breaker.agent, by=f"admin {request.user.get_username()}"):
            audit(request, [breaker], "Closed.")
            messages.success(request, f"The circuit of {breaker.agent} is closed.")
        else:
            messages.info(request, f"The circuit of {breaker.agent} was closed already.")
        return redirect(LIST)

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """No button on a breaker that is closed."""
        if not Breaker.objects.filter(pk=object_id).exclude(state=Breaker.State.CLOSED).exists():
            return []
        buttons: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        return buttons

    @admin.display(description="state")
    def standing(self, breaker: Breaker) -> SafeString:
        return looks.label(looks.words(breaker.state), COLOURS[breaker.state])

    @admin.display(description="since")
    def since(self, breaker: Breaker) -> SafeString | str:
        return looks.when(breaker.changed_at)

    @admin.display(description="reason")
    def why(self, breaker: Breaker) -> str:
        return breaker.reason or looks.NOTHING

    @admin.display(description="next try")
    def next_try(self, breaker: Breaker) -> SafeString | str:
        return looks.when(breaker.retry_at)

    @admin.display(description="probe")
    def trial(self, breaker: Breaker) -> SafeString | str:
        if breaker.probe is None:
            return looks.NOTHING
        url = reverse(TASK_PAGE, args=[breaker.probe])
        return format_html('<a class="a2a-id a2a-link" href="{}">{}</a>', url, breaker.probe)
