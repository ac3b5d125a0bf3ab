"""Clients and their API keys. A key is issued, shown once, and revoked; nothing of it is ever changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks_app.admin import looks
from tasks_app.admin.base import Admin, confirmation, detail_action, may
from tasks_app.models import ApiKey, Client

KEY_PAGE = "admin:tasks_app_apikey_change"
NOT_REVOKED = Q(api_keys__revoked_at=None, api_keys__id__isnull=False)


@admin.register(Client)
class ClientAdmin(Admin):
    list_display = ("name", "is_active", "keys", "tasks", "created")
    list_filter = ("is_active",)
    search_fields = ("name",)
    ordering = ("name",)
    fields = ("name", "is_active")

    def has_delete_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        """Nobody: its tasks stay. Make it inactive instead."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Client]:
        return Client.objects.annotate(key_count=Count("api_keys", filter=NOT_REVOKED))

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


@admin.register(ApiKey)
class ApiKeyAdmin(Admin):
    list_display = ("label", "client", "standing", "created", "expires")
    list_filter = ("client",)
    list_select_related = ("client",)
    search_fields = ("prefix", "client__name")
    ordering = ("-created_at",)
    autocomplete_fields = ("client",)
    fields = ("client", "expires_at")
    actions_detail = ["revoke"]

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Nobody changes a key; see ``revoke``."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Nobody: a revoked key stays on record."""
        return False

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_apikey")

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return ("client", "expires_at") if obj is None else ("label", "client", "standing", "created", "expires")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return () if obj is None else ("label", "standing", "created", "expires")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm[ApiKey], change: bool) -> None:
        """Issues the key. Its text goes into one message, and nowhere else."""
        key, text = ApiKey.issue(obj.client)
        if obj.expires_at is not None:
            ApiKey.objects.filter(pk=key.pk).update(expires_at=obj.expires_at)
        obj.pk, obj.prefix, obj.digest, obj.created_at = key.pk, key.prefix, key.digest, key.created_at
        obj._state.adding = False
        note = 'The key of {}, shown this once; copy it now: <code class="a2a-secret">{}</code>'
        messages.warning(request, format_html(note, obj.client.name, text))

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
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
            self.log_change(request, key, "Revoked.")
            messages.success(request, f"Revoked {key}.")
        else:
            messages.warning(request, f"{key} had been revoked before.")
        return redirect(back)

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """No button on a key that is revoked."""
        if not ApiKey.objects.filter(pk=object_id, revoked_at=None).exists():
            return []
        buttons: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        return buttons

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
