"""What the whole admin shares: its style sheet, its script, its sidebar. Named by ``UNFOLD`` in the settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from tasks_app.admin.base import may

#: (title, icon, model, and the list's name where it is not the model's own).
Item = tuple[str, str, str] | tuple[str, str, str, str]

#: By group; a user sees what he may view.
GROUPS: dict[str, tuple[Item, ...]] = {
    "Work": (
        ("Tasks", "task_alt", "tasks_app.task"),
        ("Dead letters", "sms_failed", "tasks_app.task", "admin:tasks_app_task_dead_letters"),
        ("Batches", "stacks", "tasks_app.batch"),
        ("Queues", "queue", "tasks_app.queuecontrol"),
        ("Breakers", "electrical_services", "tasks_app.breaker"),
        ("Artifacts", "draft", "artifacts_app.artifact"),
        ("Workers", "memory", "tasks_app.worker"),
    ),
    "Notifications": (
        ("Webhooks", "webhook", "tasks_app.pushconfig"),
        ("Deliveries", "outgoing_mail", "tasks_app.pushdelivery"),
    ),
    "Access": (
        ("Clients", "smart_toy", "tasks_app.client"),
        ("API keys", "key", "tasks_app.apikey"),
        ("Users", "person", "auth.user"),
        ("Groups", "group", "auth.group"),
    ),
    "Schedules": (
        ("Recurring tasks", "event_repeat", "tasks_app.schedule"),
        ("Fires", "history", "tasks_app.fire"),
        ("Beat's own jobs", "manufacturing", "django_celery_beat.periodictask"),
        ("Intervals", "timer", "django_celery_beat.intervalschedule"),
        ("Crontabs", "schedule", "django_celery_beat.crontabschedule"),
        ("At an instant", "alarm", "django_celery_beat.clockedschedule"),
        ("By the sun", "wb_twilight", "django_celery_beat.solarschedule"),
    ),
}


def stylesheet(request: HttpRequest) -> str:
    return static("tasks_app/admin.css")


def environment(request: HttpRequest) -> list[str] | None:
    """The mark at the top of every page: the open mode asks nobody who they are."""
    return ["open mode", "danger"] if settings.A2A_OPEN_MODE else None


def favicon(request: HttpRequest) -> str:
    return static("tasks_app/favicon.svg")


def script(request: HttpRequest) -> str:
    return static("tasks_app/live.js")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar, without what the user may not view."""
    groups: list[dict[str, Any]] = [
        {"title": title, "separator": True, "collapsible": title == "Schedules", "items": _items(request, items)}
        for title, items in GROUPS.items()
    ]
    items = [item for group in groups for item in group["items"]]
    # One list may stand below another's address: the longest that fits is where the user is.
    here = max((item["link"] for item in items if request.path.startswith(item["link"])), key=len, default="")
    for item in items:
        item["active"] = item["link"] == here
    return [group for group in groups if group["items"]]


def _items(request: HttpRequest, items: tuple[Item, ...]) -> list[dict[str, Any]]:
    made = []
    for title, icon, model, *own in items:
        app, _, name = model.partition(".")
        if may(request, f"{app}.view_{name}") or may(request, f"{app}.change_{name}"):
            link = reverse(own[0] if own else f"admin:{app}_{name}_changelist")
            made.append({"title": title, "icon": icon, "link": link})
    return made
