"""Clients: who they are, and their limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks_app import control
from tasks_app.admin import looks
from tasks_app.admin.base import Admin, audit, confirmation, detail_action, may
from tasks_app.control import Scope
from tasks_app.models import Client, Task, TaskAttempt
from tasks_app.push.operate import issue_secret
from tasks_app.status import TaskStatus

WAITING_MAX = 10_000
#: Whose tokens speak for it.
IDENTITY = {
    "issuer": "The issuer of tokens that speak for it, as their iss says it. Empty: none do.",
    "subject": "What the claim that names a client says in them.",
}
#: The limits that an operator may set, with what they mean.
LIMITS = {
    "max_running": "How many of its tasks may be dispatched and running at once. Empty: as many as there are slots.",
    "max_queued": "How many of its tasks may wait; a submit beyond it is refused with 429. Empty: no limit.",
    "submit_rate_per_s": "Submits per second; beyond it 429 with Retry-After. Empty: no limit.",
    "max_storage_bytes": "How many bytes its files and artifacts may have; then it brings no more. Empty: no limit.",
}
STANDING = ("standing", "waiting", "running", "stored")
NOT_REVOKED = Q(api_keys__revoked_at=None, api_keys__id__isnull=False)


@admin.register(Client)
class ClientAdmin(Admin):
    list_display = (
        *("name", "standing", "max_running", "max_queued", "submit_rate_per_s", "keys", "tasks", "created"),
        "switch",
    )
    list_filter = ("is_active",)
    search_fields = ("name",)
    ordering = ("name",)
    actions_detail = ["pause", "resume", "webhook_secret"]

    def has_delete_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        """Nobody: its tasks stay. Make it inactive instead."""
        return False

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_client")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Client]:
        return Client.objects.annotate(key_count=Count("api_keys", filter=NOT_REVOKED))

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        shown = self.list_display
        return shown if self.has_operate_permission(request) else tuple(name for name in shown if name != "switch")

    def get_fields(self, request: HttpRequest, obj: Client | None = None) -> tuple[str, ...]:
        own = ("name", "is_active", *IDENTITY, *LIMITS)
        return own if obj is None else (*own, *STANDING)

    def get_readonly_fields(self, request: HttpRequest, obj: Client | None = None) -> tuple[str, ...]:
        return () if obj is None else STANDING

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in (helps := {**LIMITS, **IDENTITY}):
            field.help_text = helps[db_field.name]
        return field

    def save_model(self, request: HttpRequest, obj: Client, form: ModelForm[Client], change: bool) -> None:
        """Writes only what the form changed: another operator may have paused it meanwhile."""
        if not change:
            obj.save()
        elif form.changed_data:
            obj.save(update_fields=form.changed_data)
            control.look()

    @detail_action(description="Pause", permission="operate", icon="pause")
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then pauses."""
        note = "None of its tasks starts, and what was handed to the broker is taken back. What runs is finished."
        return self._switch(request, object_id, "Pause", "Paused", control.pause, note)

    @detail_action(description="Resume", permission="operate", icon="play_arrow", danger=False)
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then resumes."""
        return self._switch(request, object_id, "Resume", "Resumed", control.resume, "Its tasks start again.")

    @detail_action(description="New webhook secret", permission="operate", icon="key", danger=False)
    def webhook_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then issues one. Its text goes into one message, and nowhere else."""
        client = self.get_object(request, object_id)
        if client is None:
            return redirect("admin:tasks_app_client_changelist")
        back = reverse("admin:tasks_app_client_change", args=[client.pk])
        if request.method != "POST":
            title = f"New webhook secret of {client.name}"
            note = (
                "Its notifications are signed with it from now on, and for a day with the one before as well,"
                " so that receivers can change over. It is shown once."
            )
            return confirmation(request, self, title=title, submit="Issue", back=back, danger=False, notes=[note])
        text = issue_secret(client.name)
        audit(request, [client], "Issued a webhook secret.")
        said = 'The webhook secret of {}, shown this once; copy it now: <code class="a2a-secret">{}</code>'
        messages.warning(request, format_html(said, client.name, text))
        return redirect(back)

    @admin.display(description="stored")
    def stored(self, client: Client) -> str:
        """Counted by the sweep, of a client with a limit only."""
        return "-" if client.max_storage_bytes is None else looks.size(client.stored_bytes)

    def _switch(
        self, request: HttpRequest, object_id: str, verb: str, did: str, switch: Callable[[Scope, str], bool], note: str
    ) -> HttpResponse:
        client = self.get_object(request, object_id)
        if client is None:
            return redirect("admin:tasks_app_client_changelist")
        back = reverse("admin:tasks_app_client_change", args=[client.pk])
        title = f"{verb} {client.name}"
        if request.method != "POST":
            danger, notes = verb == "Pause", [f"{title}? {note} It may still submit, and what it submits waits."]
            notes = notes if danger else [f"{title}? {note}"]
            return confirmation(request, self, title=title, submit=title, back=back, danger=danger, notes=notes)
        if switch(Scope.CLIENT, client.name):
            audit(request, [client], f"{did}.")
            messages.success(request, f"{did} {client.name}.")
        else:
            messages.info(request, f"Nothing changed: {client.name} stood so before.")
        return redirect(back)

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """Pause or resume, whichever fits, and the others."""
        unwanted = "pause" if Client.objects.filter(pk=object_id, paused_at__isnull=False).exists() else "resume"
        buttons: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        return [button for button in buttons if button.path != unwanted]

    @admin.display(description="state")
    def standing(self, client: Client) -> SafeString:
        if not client.is_active:
            return looks.label("inactive", "cancelled")
        if client.paused_at is not None:
            return format_html("{} {}", looks.label("paused", "input_required"), looks.when(client.paused_at))
        return looks.label("active", "completed")

    @admin.display(description="pause")
    def switch(self, client: Client) -> SafeString:
        name = "pause" if client.paused_at is None else "resume"
        url = reverse(f"admin:tasks_app_client_{name}", args=[client.pk])
        return format_html('<a class="a2a-link" href="{}">{}</a>', url, name)

    @admin.display(description="waiting now")
    def waiting(self, client: Client) -> str:
        """By task_client_pending_idx, no further than is shown."""
        count = Task.objects.filter(client=client, status=TaskStatus.PENDING)[: WAITING_MAX + 1].count()
        return f"{WAITING_MAX:,}+" if count > WAITING_MAX else f"{count:,}"

    @admin.display(description="running now")
    def running(self, client: Client) -> int:
        """By attempt_unreleased_idx: no more rows than there are slots."""
        return TaskAttempt.objects.filter(released_at=None, task__client=client).count()

    @admin.display(description="keys in use")
    def keys(self, client: Client) -> SafeString:
        url = f"{reverse('admin:tasks_app_apikey_changelist')}?client__id__exact={client.pk}"
        return format_html('<a class="a2a-link" href="{}">{}</a>', url, client.key_count)  # type: ignore[attr-defined]

    @admin.display(description="tasks")
    def tasks(self, client: Client) -> SafeString:
        url = f"{reverse('admin:tasks_app_task_changelist')}?client__id__exact={client.pk}"
        return format_html('<a class="a2a-link" href="{}">show</a>', url)

    @admin.display(description="created", ordering="created_at")
    def created(self, client: Client) -> SafeString | str:
        return looks.when(client.created_at)
