"""Lists are read by keyset, newest first: stable while tasks are added, and never counted."""

from rest_framework.pagination import CursorPagination


class NewestFirst(CursorPagination):
    ordering = "-id"
    page_size = 50
    max_page_size = 100
    page_size_query_param = "page_size"
