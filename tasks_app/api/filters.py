"""What a list of tasks can be narrowed to; what names nothing is refused, not ignored."""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models import Exists, OuterRef, QuerySet
from drf_spectacular.utils import OpenApiParameter

from tasks_app.a2a import http, parse
from tasks_app.a2a.errors import invalid
from tasks_app.models import Task
from tasks_app.status import Priority, TaskStatus

DEAD_LETTERS = "dead_letters"
#: Those of paging, and of DRF's choice of a format.
OTHERS = ("cursor", "page_size", "format")
PARAMETERS = [
    OpenApiParameter("status", enum=TaskStatus.values),
    OpenApiParameter("priority", enum=Priority.labels),
    OpenApiParameter("agent"),
    OpenApiParameter("context_id"),
    OpenApiParameter("batch_id", description="Of the tasks of a batch those that were not run again."),
    OpenApiParameter(
        DEAD_LETTERS,
        enum=["true"],
        description="Only tasks that failed for good and were not run again, the one that failed last first.",
    ),
]


def check_params(params: Mapping[str, str], *names: str) -> None:
    """Raises InvalidParamsError for a parameter that is none of these, nor of paging."""
    known = (*names, *OTHERS)
    unknown = sorted(set(params).difference(known))
    if unknown:
        raise invalid(unknown[0], f"unknown; there are: {', '.join(known)}")


def number(params: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    """The whole number from 1 on that a parameter says. Raises InvalidParamsError."""
    if name not in params:
        return default
    found = http.whole_number(params[name])
    if found is None or not 1 <= found <= most or len(params[name]) > len(str(most)):
        raise invalid(name, f"must be a number from 1 to {most}")
    return found


def filtered(tasks: QuerySet[Task], params: Mapping[str, str]) -> QuerySet[Task]:
    """The tasks that a query asks for. Raises InvalidParamsError naming the parameter that says nothing."""
    check_params(params, *(parameter.name for parameter in PARAMETERS))
    if "status" in params:
        if params["status"] not in TaskStatus.values:
            raise invalid("status", f"'{params['status']}' is no status; one of {', '.join(TaskStatus.values)}")
        tasks = tasks.filter(status=params["status"])
    if "priority" in params:
        try:
            tasks = tasks.filter(priority=Priority.parse(params["priority"]))
        except ValueError as error:
            raise invalid("priority", str(error)) from error
    for name in ("agent", "context_id"):
        if name in params:
            if parse.has_nul(params[name]):
                raise invalid(name, "may not hold NUL characters")
            tasks = tasks.filter(**{name: params[name]})
    if "batch_id" in params:
        batch_id = parse.uuid(params["batch_id"])
        if batch_id is None:
            raise invalid("batch_id", "is no batch's id")
        tasks = tasks.filter(batch=batch_id, batch_index__isnull=False)
    if DEAD_LETTERS in params:
        if params[DEAD_LETTERS] != "true":
            raise invalid(DEAD_LETTERS, "must be true")
        tasks = dead_letters(tasks)
    return tasks


def dead_letters(tasks: QuerySet[Task]) -> QuerySet[Task]:
    """Those that failed for good, because no attempt was left or their failure was final, and were not run again.

    Served by task_ended_idx in the order of their ends, and by task_rerun_idx.
    """
    again = Task.objects.filter(rerun_of=OuterRef("pk"))
    return tasks.filter(~Exists(again), status=TaskStatus.FAILED, completed_at__isnull=False)
