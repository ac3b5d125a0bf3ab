"""Lists are read by keyset, newest first: stable while tasks are added, and never counted."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils.dateparse import parse_datetime
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

from tasks_app.a2a.errors import invalid
from tasks_app.api.filters import DEAD_LETTERS, number
from tasks_app.models import Task


class NewestFirst(CursorPagination):
    """By id, which is by creation; dead letters by the end of their tasks, and by id where many ended at once.

    A cursor names the place of one task, so that none is missed or repeated. DRF's own names one field, and counts
    among its equals, which others join and leave.
    """

    page_size = 50
    max_page_size = 100
    page_size_query_param = "page_size"

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.base_url = request.build_absolute_uri()
        self.page_size = self.get_page_size(request)
        self.by_end = DEAD_LETTERS in request.query_params
        self.cursor = cursor = self.decode_cursor(request)
        back = cursor is not None and cursor.reverse
        place = None if cursor is None else cursor.position
        if place is not None:
            queryset = queryset.filter(self._past(str(place), back=back))
        fields = ("completed_at", "id") if self.by_end else ("id",)
        rows = list(queryset.order_by(*(name if back else f"-{name}" for name in fields))[: self.page_size + 1])
        self.page, more = rows[: self.page_size], len(rows) > self.page_size
        if back:
            self.page.reverse()
        came = place is not None
        self.has_next, self.has_previous = (came, more) if back else (more, came)
        self.display_page_controls = self.has_next or self.has_previous
        return self.page

    def get_next_link(self) -> str | None:
        return self._link(-1, reverse=False) if self.has_next else None

    def get_previous_link(self) -> str | None:
        return self._link(0, reverse=True) if self.has_previous else None

    def get_page_size(self, request: Request) -> int:
        """What was asked for. Raises InvalidParamsError where DRF would fall back on the default."""
        limits = {"default": self.page_size, "most": self.max_page_size}
        return number(request.query_params, self.page_size_query_param, **limits)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """The cursor. Raises InvalidParamsError for one that is not of this list."""
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and cursor.position is not None:
                self._past(str(cursor.position), back=cursor.reverse)
        except (NotFound, ValueError):
            raise invalid(self.cursor_query_param, "is none of this list's") from None
        return cursor

    def _link(self, index: int, *, reverse: bool) -> str:
        place: Any = self._place(self.page[index]) if self.page else self.cursor and self.cursor.position
        return str(self.encode_cursor(Cursor(offset=0, reverse=reverse, position=place)))

    def _place(self, task: Task) -> str:
        """What a cursor holds of a task."""
        return f"{task.completed_at.isoformat()}~{task.id}" if self.by_end and task.completed_at else str(task.id)

    def _past(self, place: str, *, back: bool) -> Q:
        """The tasks that follow this place, or come before it. Raises ValueError if it is none of this list's."""
        instant, _, task_id = place.rpartition("~")
        beyond = "gt" if back else "lt"
        further = Q(**{f"id__{beyond}": UUID(task_id)})
        if not self.by_end:
            if instant:
                raise ValueError(place)
            return further
        at = parse_datetime(instant)
        if at is None or at.tzinfo is None:
            raise ValueError(place)
        # The first is implied; it lets the index begin at the place.
        return Q(**{f"completed_at__{beyond}e": at}) & (Q(**{f"completed_at__{beyond}": at}) | further)
