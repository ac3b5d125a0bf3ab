"""Filters of the lists. None of them asks the table for its distinct values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tasks_app import agents

if TYPE_CHECKING:
    DropdownFilter = admin.SimpleListFilter
else:
    from unfold.contrib.filters.admin import DropdownFilter

Choices = list[tuple[str, str]]

PERIODS = {
    "15m": ("last 15 minutes", timedelta(minutes=15)),
    "1h": ("last hour", timedelta(hours=1)),
    "24h": ("last 24 hours", timedelta(hours=24)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
}


class AgentFilter(DropdownFilter):
    """By agent: those that are registered, and the one asked for."""

    title = "agent"
    parameter_name = "agent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = set(agents.registered()) | ({self.value() or ""} - {""})
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(agent=self.value()) if self.value() else queryset


class PeriodFilter(DropdownFilter):
    """By time: a period that ends now, a day, or a range of days ``2026-01-31..2026-02-01``."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        choices = [(key, label) for key, (label, _) in PERIODS.items()]
        today = timezone.now().date()
        choices += [(day.isoformat(), f"on {day:%a %d %b}") for day in (today - timedelta(n) for n in range(7))]
        asked = self.value()
        return choices if not asked or asked in dict(choices) else [*choices, (asked, asked)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        try:
            start, end = self._bounds(value)
        except ValueError:
            return queryset.none()
        return self.between(queryset, start, end)

    def between(self, queryset: QuerySet[Any], start: datetime, end: datetime | None) -> QuerySet[Any]:
        """What falls into the period."""
        raise NotImplementedError

    @staticmethod
    def _bounds(value: str) -> tuple[datetime, datetime | None]:
        if value in PERIODS:
            return timezone.now() - PERIODS[value][1], None
        first, _, last = value.partition("..")
        start, end = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (first, last or first))
        return start, end + timedelta(days=1)


class CreatedFilter(PeriodFilter):
    """By creation. Ids are UUIDv7: the period is a range of the primary key, and no other index is needed."""

    title = "created"
    parameter_name = "created"

    def between(self, queryset: QuerySet[Any], start: datetime, end: datetime | None) -> QuerySet[Any]:
        queryset = queryset.filter(id__gte=first_id(start))
        return queryset if end is None else queryset.filter(id__lt=first_id(end))


class EndedFilter(PeriodFilter):
    """By when it ended."""

    title = "ended"
    parameter_name = "ended"

    def between(self, queryset: QuerySet[Any], start: datetime, end: datetime | None) -> QuerySet[Any]:
        queryset = queryset.filter(completed_at__gte=start)
        return queryset if end is None else queryset.filter(completed_at__lt=end)


class BeforeFilter(admin.SimpleListFilter):
    """The keyset: what is older than an id. The link below the last page sets it; here it is only shown and cleared."""

    title = "older than"
    parameter_name = "before"
    template = "tasks_app/admin/before.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return []

    def has_output(self) -> bool:
        # Django forgets a filter that has nothing to choose from.
        return True

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        yield {"value": self.value(), "clear": changelist.get_query_string(remove=["before", "p"])}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        try:
            return self.before(queryset, value)
        except ValueError:
            return queryset.none()

    def before(self, queryset: QuerySet[Any], key: str) -> QuerySet[Any]:
        """What comes after this key in the list's order. Raises ValueError if it is none."""
        return queryset.filter(id__lt=UUID(key))


class EndedBeforeFilter(BeforeFilter):
    """The keyset of a list by end: an instant and an id, since one statement may end several tasks."""

    def before(self, queryset: QuerySet[Any], key: str) -> QuerySet[Any]:
        instant, _, task_id = key.partition("~")
        at = datetime.fromisoformat(instant)
        if at.tzinfo is None:
            raise ValueError("an instant without its zone")
        # The first condition is implied by the second; it is what the index is entered by.
        queryset = queryset.filter(completed_at__lte=at)
        return queryset.filter(Q(completed_at__lt=at) | Q(completed_at=at, id__lt=UUID(task_id)))


def first_id(instant: datetime) -> UUID:
    """The smallest UUIDv7 of this instant (RFC 9562, section 5.7: the first 48 bits are milliseconds)."""
    return UUID(int=max(int(instant.timestamp() * 1000), 0) << 80)
