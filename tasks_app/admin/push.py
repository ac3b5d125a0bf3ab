"""Webhooks and what was sent to them: which are dead and why, resuming them, and sending something again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from tasks_app.admin import looks, search
from tasks_app.admin.actions import PAGE as TASK_PAGE
from tasks_app.admin.base import ReadOnlyAdmin, audit, confirmation, detail_action, may
from tasks_app.admin.batches import PAGE as BATCH_PAGE
from tasks_app.admin.filters import BeforeFilter, CreatedFilter
from tasks_app.admin.paginator import CappedList
from tasks_app.models import PushConfig, PushDelivery
from tasks_app.push import operate

LIST = "admin:tasks_app_pushconfig_changelist"
PAGE = "admin:tasks_app_pushconfig_change"
DELIVERIES = "admin:tasks_app_pushdelivery_changelist"
COLOURS = {"active": "running", "dead": "failed", "done": "completed"}


class PushAdmin(CappedList, ReadOnlyAdmin):
    """What the two lists share. Changing anything needs ``change_pushconfig``."""

    list_filter_submit = True
    list_per_page = 50
    search_fields = ("task_id",)
    search_help_text = "id of the task or batch, or a host"

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_pushconfig")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        for word in search_term.split():
            bounds = search.id_range(word) if len(word) >= search.PREFIX_MIN else None
            if bounds:
                task = Q(task__gte=bounds[0], task__lte=bounds[1])
                queryset = queryset.filter(task | Q(batch__gte=bounds[0], batch__lte=bounds[1]))
            else:
                queryset = queryset.filter(host__istartswith=word)
        return queryset, False

    @admin.display(description="task or batch")
    def of_task(self, row: PushConfig | PushDelivery) -> SafeString:
        text = str(row.task_id or row.batch_id)
        url = reverse(TASK_PAGE if row.task_id else BATCH_PAGE, args=[text])
        return format_html('<a class="a2a-id a2a-link" href="{}" title="{}">{}…</a>', url, text, text[:13])


@admin.register(PushConfig)
class PushConfigAdmin(PushAdmin):
    list_display = ("label", "of_task", "host", "standing", "sent", "failures", "last_error", "next_try")
    list_display_links = ("label",)
    list_filter = (("state", ChoicesDropdownFilter), CreatedFilter, BeforeFilter)
    actions = ["resume_selected"]
    actions_detail = ["resume_one"]
    #: The url as far as it says where to; what follows may be a secret of its receiver.
    fields = ("label", "of_task", "host", "scheme", "standing", "sent", "failures", "last_error", "next_try", "log")
    readonly_fields = ("label", "of_task", "standing", "sent", "next_try", "log")

    def get_queryset(self, request: HttpRequest) -> QuerySet[PushConfig]:
        return PushConfig.objects.select_related("task", "batch").defer("url", "token", "credentials")

    @admin.action(description="Resume selected webhooks", permissions=["operate"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[PushConfig]) -> HttpResponse | None:
        return self._resume(request, list(queryset.values_list("pk", flat=True)))

    @detail_action(description="Resume", permission="operate", icon="play_arrow", danger=False)
    def resume_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then resumes."""
        config = self.get_object(request, object_id)
        if config is None:
            return redirect(LIST)
        if request.method != "POST":
            note = "What it has not taken is sent, from the oldest event on, and its failures so far are forgotten."
            title, back = f"Resume {config.host}", reverse(PAGE, args=[config.pk])
            return confirmation(request, self, title=title, submit="Resume", back=back, danger=False, notes=[note])
        return self._resume(request, [config.pk]) or redirect(PAGE, config.pk)

    def _resume(self, request: HttpRequest, ids: list[Any]) -> HttpResponse | None:
        done = operate.resume(ids)
        if done:
            audit(request, PushConfig.objects.filter(pk__in=done), "Resumed.")
            messages.success(request, f"Resumed {len(done)} of {len(ids)}.")
        else:
            messages.warning(request, "Nothing was resumed: none is dead.")
        return None

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """No button on one that is not dead."""
        dead = PushConfig.objects.filter(pk=search.exact_id(object_id), state=PushConfig.State.DEAD)
        buttons: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        return buttons if dead.exists() else []

    @admin.display(description="webhook")
    def label(self, config: PushConfig) -> SafeString:
        return format_html('<span class="a2a-id" title="{}">{}</span>', config.config_id, config.config_id[:40])

    @admin.display(description="state")
    def standing(self, config: PushConfig) -> SafeString:
        return looks.label(config.state, COLOURS[config.state])

    @admin.display(description="taken")
    def sent(self, config: PushConfig) -> str:
        of, what = (config.task, "events") if config.task else (config.batch, "completions")
        return f"{config.delivered} of {of.generation if of else 0} {what}"

    @admin.display(description="next try")
    def next_try(self, config: PushConfig) -> SafeString | str:
        return looks.when(config.next_at) if config.failures and config.state == "active" else looks.NOTHING

    @admin.display(description="deliveries")
    def log(self, config: PushConfig) -> SafeString:
        url = f"{reverse(DELIVERIES)}?q={config.task_id or config.batch_id}"
        return format_html('<a class="a2a-link" href="{}">show</a>', url)


@admin.register(PushDelivery)
class PushDeliveryAdmin(PushAdmin):
    list_display = ("when", "of_task", "host", "generation", "number", "answer", "took", "error")
    list_display_links = ("when",)
    list_filter = (CreatedFilter, BeforeFilter)
    actions_detail = ["resend"]
    fields = ("when", "of_task", "config_id", "host", "generation", "number", "answer", "took", "error")
    readonly_fields = ("when", "of_task", "answer", "took")

    @detail_action(description="Send again from here", permission="operate", icon="replay")
    def resend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, then moves the webhook's cursor back."""
        delivery = self.get_object(request, object_id)
        if delivery is None:
            return redirect(DELIVERIES)
        back = reverse("admin:tasks_app_pushdelivery_change", args=[delivery.pk])
        title = f"Send event {delivery.generation} to {delivery.host} again"
        if request.method != "POST":
            note = "This event and all after it are sent once more, under the webhook-ids that they had before."
            return confirmation(request, self, title=title, submit="Send again", back=back, notes=[note])
        if operate.resend(delivery):
            audit(request, [delivery], "Sent again from here.")
            messages.success(request, f"Event {delivery.generation} and all after it are sent again.")
        else:
            messages.warning(request, "The webhook is gone: its client deleted it.")
        return redirect(back)

    @admin.display(description="when")
    def when(self, delivery: PushDelivery) -> SafeString | str:
        return looks.when(delivery.at)

    @admin.display(description="answer")
    def answer(self, delivery: PushDelivery) -> SafeString:
        taken = delivery.status_code is not None and 200 <= delivery.status_code < 300
        return looks.label(str(delivery.status_code or "none"), "completed" if taken else "failed")

    @admin.display(description="took")
    def took(self, delivery: PushDelivery) -> str:
        return looks.span(delivery.duration_s)
