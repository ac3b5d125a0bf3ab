"""Batches: how far each is, what was refused of it; cancelling what has not ended and running again what failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from tasks_app import batches, control
from tasks_app.admin import looks, search
from tasks_app.admin.actions import LIST as TASKS
from tasks_app.admin.base import ReadOnlyAdmin, audit, confirmation, detail_action, may
from tasks_app.admin.filters import BeforeFilter, CreatedFilter
from tasks_app.admin.paginator import CappedList
from tasks_app.engine import Tally
from tasks_app.models import Batch
from tasks_app.status import TERMINAL, TaskStatus

LIST = "admin:tasks_app_batch_changelist"
PAGE = "admin:tasks_app_batch_change"
#: As many refused items are shown.
REFUSED_MAX = 100


@dataclass(frozen=True)
class Verb:
    """What is asked and done; ``run`` takes the batch and who asked, and returns of how many tasks it was done."""

    title: str
    note: str
    submit: str
    danger: bool
    run: Callable[[Batch, str], int]
    did: str


CANCEL = Verb(
    title="Cancel what has not ended of {}",
    note="Its tasks that wait or run are cancelled at once; those that have ended stay as they are.",
    submit="Cancel",
    danger=True,
    run=lambda batch, by: len(control.cancel(batch.open_ids(), by=by)),
    did="Cancelled {}.",
)
RERUN = Verb(
    title="Run again what failed of {}",
    note="A new task is made of each that failed, and counts in its place.",
    submit="Run again",
    danger=False,
    run=lambda batch, by: len(control.rerun(batch.failed_ids(), placed=True)),
    did="{} run again.",
)


@admin.register(Batch)
class BatchAdmin(CappedList, ReadOnlyAdmin):
    """Cancelling and running again needs ``change_task``, as for the tasks one by one."""

    list_display = ("label", "client", "done", "states", "size", "created", "completed")
    list_display_links = ("label",)
    list_filter = (("client", AutocompleteSelectFilter), CreatedFilter, BeforeFilter)
    list_filter_submit = True
    list_select_related = ("client",)
    list_per_page = 50
    #: Only makes the box appear; ``get_search_results`` does the work.
    search_fields = ("name",)
    search_help_text = "id, or how the name begins"
    fields = (
        *("label", "client", "done", "states", "size", "tasks", "refusals", "metadata", "key", "webhook"),
        *("created", "completed"),
    )
    readonly_fields = ("label", "done", "states", "tasks", "refusals", "webhook", "created", "completed")
    actions_detail = ["cancel_batch", "rerun_failed"]

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "tasks_app.change_task")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Batch | None:
        found = Batch.objects.select_related("client").filter(pk=search.exact_id(object_id))
        return next(iter(tallied(list(found))), None)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        page: ChangeList = super().get_changelist_instance(request)
        page.result_list = tallied(list(page.result_list))
        return page

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Batch], search_term: str
    ) -> tuple[QuerySet[Batch], bool]:
        for word in search_term.split():
            found = Q(name__istartswith=word)
            bounds = search.id_range(word) if len(word) >= search.PREFIX_MIN else None
            queryset = queryset.filter(found | Q(id__range=bounds) if bounds else found)
        return queryset, False

    @detail_action(description="Cancel", permission="operate", icon="block")
    def cancel_batch(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._confirmed(request, object_id, CANCEL)

    @detail_action(description="Run failed again", permission="operate", icon="replay", danger=False)
    def rerun_failed(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._confirmed(request, object_id, RERUN)

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """The buttons that would do something."""
        batch = self.get_object(request, object_id)
        counts = tally_of(batch).counts if batch else {}
        fitting = {
            "cancel_batch": sum(counts.values()) > sum(counts.get(status, 0) for status in TERMINAL),
            "rerun_failed": counts.get(TaskStatus.FAILED, 0) > 0,
        }
        buttons: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        return [button for button in buttons if fitting.get(button.path)]

    def _confirmed(self, request: HttpRequest, object_id: str, verb: Verb) -> HttpResponse:
        """Asks, then does it."""
        batch = self.get_object(request, object_id)
        if batch is None:
            return redirect(LIST)
        back, title = reverse(PAGE, args=[batch.pk]), verb.title.format(batch)
        if request.method != "POST":
            return confirmation(
                request, self, title=title, submit=verb.submit, back=back, danger=verb.danger, notes=[verb.note]
            )
        if done := verb.run(batch, f"admin {request.user.get_username()}"):
            said = verb.did.format(f"{done} task{'' if done == 1 else 's'}")
            audit(request, [batch], said)
            messages.success(request, said)
        else:
            messages.warning(request, "Nothing was done: its tasks had moved on.")
        return redirect(back)

    @admin.display(description="batch")
    def label(self, batch: Batch) -> SafeString:
        text = str(batch.id)
        return format_html('<span class="a2a-id" title="{}">{}</span>', text, batch.name or f"{text[:13]}…{text[-4:]}")

    @admin.display(description="progress")
    def done(self, batch: Batch) -> SafeString:
        tally = tally_of(batch)
        status = "completed" if batch.completed_at else "running"
        return looks.bar(tally.progress / max(1, sum(tally.counts.values())), status)

    @admin.display(description="tasks by state")
    def states(self, batch: Batch) -> SafeString:
        counts = tally_of(batch).counts
        shown = [
            (looks.label(f"{counts[status]} {looks.words(status)}", status),)
            for status in TaskStatus
            if status in counts
        ]
        return format_html_join(" ", "{}", shown)

    @admin.display(description="tasks")
    def tasks(self, batch: Batch) -> SafeString:
        return format_html('<a class="a2a-link" href="{}?q=batch:{}">show</a>', reverse(TASKS), batch.id)

    @admin.display(description="refused")
    def refusals(self, batch: Batch) -> SafeString | str:
        if not batch.refused:
            return looks.NOTHING
        rows = [(wrong["index"], wrong["field"], wrong["message"]) for wrong in batch.refused[:REFUSED_MAX]]
        rest = len(batch.refused) - len(rows)
        more = format_html("<p>and {} more</p>", rest) if rest else ""
        return format_html("{}{}", format_html_join("", "<p>#{} <b>{}</b> {}</p>", rows), more)

    @admin.display(description="webhook")
    def webhook(self, batch: Batch) -> SafeString | str:
        config = batch.push_configs.defer("url", "token", "credentials").first()
        if config is None:
            return looks.NOTHING
        url = reverse("admin:tasks_app_pushconfig_change", args=[config.pk])
        return format_html('<a class="a2a-link" href="{}">{}, {}</a>', url, config.host, config.state)

    @admin.display(description="created")
    def created(self, batch: Batch) -> SafeString | str:
        return looks.when(batch.created_at)

    @admin.display(description="completed")
    def completed(self, batch: Batch) -> SafeString | str:
        return looks.when(batch.completed_at)


def tallied(found: list[Batch]) -> list[Batch]:
    """The batches, which know how their tasks stand."""
    tallies = batches.tallies(found)
    for batch in found:
        batch.tally = tallies[batch.id]  # type: ignore[attr-defined]
    return found


def tally_of(batch: Batch) -> Tally:
    tally: Tally = batch.tally  # type: ignore[attr-defined] # get_object and the list set it
    return tally
