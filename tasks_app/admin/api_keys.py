"""API keys. A key is issued, shown once, rotated and revoked; nothing else of it is ever changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks_app.admin import looks
from tasks_app.admin.base import Admin, confirmation, detail_action, may
from tasks_app.models import ApiKey
from tasks_app.models.api_key import GRACE

KEY_PAGE = "admin:tasks_app_apikey_change"
#: What is said when a key is issued.
HELP = {
    "name": "What it is for.",
    "scopes": "What it may be used for, with commas: tasks:read, tasks:write, and those of skills. Empty: everything.",
    "expires_at": "Empty: never.",
}


@admin.register(ApiKey)
class ApiKeyAdmin(Admin):
    list_display = ("label", "name", "client", "may_do", "standing", "used", "created", "expires")
    list_filter = ("client",)
    list_select_related = ("client",)
    search_fields = ("prefix", "name", "client__name")
    ordering = ("-created_at",)
    autocomplete_fields = ("client",)
    actions_detail = ["rotate", "revoke"]

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Nobody changes a key; see ``rotate`` and ``revoke``."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Nobody: a revoked key stays on record."""
        return False

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_apikey")

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        shown = ("label", "name", "client", "may_do", "standing", "used", "created", "expires", "predecessor")
        return ("client", *HELP) if obj is None else shown

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in HELP:
            field.help_text = HELP[db_field.name]
        return field

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm[ApiKey], change: bool) -> None:
        """Issues the key."""
        key, text = ApiKey.issue(obj.client, name=obj.name, scopes=obj.scopes, expires_at=obj.expires_at)
        obj.pk, obj.prefix, obj.digest, obj.created_at = key.pk, key.prefix, key.digest, key.created_at
        obj._state.adding = False
        self._show(request, key, text)

    def _show(self, request: HttpRequest, key: ApiKey, text: str) -> None:
        """Puts the key's text into one message, and nowhere else."""
        note = 'The key of {}, shown this once; copy it now: <code class="a2a-secret">{}</code>'
        messages.warning(request, format_html(note, key.client.name, text))

    @detail_action(description="Rotate", permission="revoke", icon="autorenew", danger=False)
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then issues a successor; the old key goes on for a while."""
        key = self.get_object(request, object_id)
        if key is None:
            return redirect("admin:tasks_app_apikey_changelist")
        back = reverse(KEY_PAGE, args=[key.pk])
        if request.method != "POST":
            hours = GRACE.total_seconds() / 3600
            note = f"Issue a key that takes the place of {key}? It may do the same. {key} goes on for {hours:g} hours."
            title = f"Rotate {key}"
            return confirmation(
                request, self, title=title, submit="Issue the successor", back=back, danger=False, notes=[note]
            )
        issued = key.rotate()
        if issued is None:
            messages.warning(request, f"{key} is not in use any more, or has a successor.")
            return redirect(back)
        self.log_change(request, key, f"Rotated: {issued[0]} takes its place.")
        self._show(request, *issued)
        return redirect(reverse(KEY_PAGE, args=[issued[0].pk]))

    @detail_action(description="Revoke", permission="revoke", icon="key_off")
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then ends the key's validity; processes that just saw it take a few seconds to notice."""
        key = self.get_object(request, object_id)
        if key is None:
            return redirect("admin:tasks_app_apikey_changelist")
        back = reverse(KEY_PAGE, args=[key.pk])
        if request.method != "POST":
            note = f"Revoke {key} of {key.client.name}? Requests that bring it will be refused. There is no undo."
            title = f"Revoke {key}"
            return confirmation(request, self, title=title, submit="Revoke the key", back=back, notes=[note])
        if key.revoke():
            self.log_change(request, key, "Revoked.")
            messages.success(request, f"Revoked {key}.")
        else:
            messages.warning(request, f"{key} had been revoked before.")
        return redirect(back)

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """None on a key that is revoked; one that has expired, or has a successor, is not rotated."""
        if not ApiKey.objects.filter(pk=object_id, revoked_at=None).exists():
            return []
        buttons: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        rotates = ApiKey.objects.in_use().filter(pk=object_id, successor=None).exists()
        return [button for button in buttons if rotates or button.path != "rotate"]

    @admin.display(description="key")
    def label(self, key: ApiKey) -> SafeString:
        return format_html('<span class="a2a-id">{}</span>', str(key))

    @admin.display(description="state")
    def standing(self, key: ApiKey) -> SafeString:
        if key.revoked_at is not None:
            return format_html(
                '<span class="a2a-label a2a-cancelled"><i></i>revoked {}</span>', looks.when(key.revoked_at)
            )
        if key.expires_at is not None and key.expires_at <= timezone.now():
            return format_html('<span class="a2a-label a2a-{}"><i></i>{}</span>', "failed", "expired")
        return format_html('<span class="a2a-label a2a-{}"><i></i>{}</span>', "completed", "in use")

    @admin.display(description="created", ordering="created_at")
    def created(self, key: ApiKey) -> SafeString | str:
        return looks.when(key.created_at)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, key: ApiKey) -> SafeString | str:
        return looks.when(key.expires_at) if key.expires_at else "never"

    @admin.display(description="may")
    def may_do(self, key: ApiKey) -> str:
        return ", ".join(key.scopes) or "everything"

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, key: ApiKey) -> SafeString | str:
        return looks.when(key.last_used_at) if key.last_used_at else "never"
