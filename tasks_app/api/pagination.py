"""Lists are read by keyset, newest first: stable while tasks are added, and never counted."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

from tasks_app.a2a.errors import invalid
from tasks_app.api.filters import DEAD_LETTERS


class NewestFirst(CursorPagination):
    """By id, which is by creation; dead letters by the end of their tasks."""

    ordering = "-id"
    page_size = 50
    max_page_size = 100
    page_size_query_param = "page_size"

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> tuple[str, ...]:
        return ("-completed_at", "-id") if DEAD_LETTERS in request.query_params else ("-id",)

    def get_page_size(self, request: Request) -> int:
        """What was asked for. Raises InvalidParamsError where DRF would fall back on the default."""
        text = request.query_params.get(self.page_size_query_param)
        if text is None:
            return self.page_size
        if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= self.max_page_size):
            raise invalid(self.page_size_query_param, f"must be a number from 1 to {self.max_page_size}")
        return int(text)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """The cursor. Raises NotFound for one that is not ours; DRF looks only at its encoding."""
        cursor = super().decode_cursor(request)
        if cursor is None or cursor.position is None:
            return cursor
        reads = _instant if DEAD_LETTERS in request.query_params else UUID
        try:
            reads(str(cursor.position))
        except ValueError:
            raise NotFound(self.invalid_cursor_message) from None
        return cursor


def _instant(text: str) -> None:
    """Raises ValueError for what is no instant with its offset."""
    instant = parse_datetime(text)
    if instant is None or instant.tzinfo is None:
        raise ValueError(text)
