"""Lists that stay fast at ten million rows: never a count of the whole, and further back by keyset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin import ShowFacets
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from tasks_app.admin.base import Admin

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList

    Pages = Paginator[Any]
else:
    Pages = Paginator
    from unfold.views import ChangeList

#: As many rows are counted and paged through; what is older is reached by ``?before=<id>``.
COUNT_MAX = 1000


class CappedPaginator(Pages):
    """Counts at most :data:`COUNT_MAX` rows, whatever the list holds."""

    template_name = "tasks_app/admin/pagination.html"

    @cached_property
    def _found(self) -> int:
        rows = self.object_list
        assert isinstance(rows, QuerySet)  # noqa: S101 (narrows the type)
        # Ordered as the list is, so that it reads the same few index pages.
        return int(rows.values("pk")[: COUNT_MAX + 1].count())

    @cached_property
    def count(self) -> int:
        return min(self._found, COUNT_MAX)

    @property
    def capped(self) -> bool:
        """Whether there are more than were counted."""
        return self._found > COUNT_MAX


class KeysetChangeList(ChangeList):
    """A list that knows the address of what is older than its last row, and no total beside its count."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count

    @property
    def older_url(self) -> str:
        last = list(self.result_list)[-1]
        return str(self.get_query_string({"before": str(last.pk)}, remove=["p"]))


class CappedList(Admin):
    """A list of what has a UUIDv7 for its id, newest first; needs a ``BeforeFilter`` among its filters."""

    list_max_show_all = 0
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = CappedPaginator
    ordering = ("-id",)
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList
