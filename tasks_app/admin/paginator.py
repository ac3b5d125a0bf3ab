"""Lists that stay fast at ten million rows: never a count of the whole, and further back by keyset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.core.paginator import Paginator
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.functional import cached_property

from tasks_app.admin.base import Admin

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList

    Pages = Paginator[Any]
else:
    Pages = Paginator
    from unfold.views import ChangeList

#: As many rows are counted and paged through; what is older is reached by ``?before=<key>``.
COUNT_MAX = 1000
#: A list that took longer is given up: a filter that matches next to nothing reads the whole table.
LIST_TIMEOUT_S = 5.0
QUERY_CANCELED = "57014"


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
        key = cast(CappedList, self.model_admin).key_of(last)
        return str(self.get_query_string({"before": key}, remove=["p"]))


class CappedList(Admin):
    """A list of what has a UUIDv7 for its id, newest first; needs a ``BeforeFilter`` among its filters."""

    list_max_show_all = 0
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = CappedPaginator
    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    sortable_by = ()

    def key_of(self, row: Any) -> str:
        """What its filter takes for the place of a row in the list's order."""
        return str(row.pk)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, or a word that its filters took too long."""
        if request.method != "GET":
            return super().changelist_view(request, extra_context)
        try:
            with transaction.atomic():
                _give_up_after(LIST_TIMEOUT_S)
                response = super().changelist_view(request, extra_context)
                # Rows are read while the template is rendered: that must happen before the time limit goes.
                return response.render() if isinstance(response, TemplateResponse) else response
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != QUERY_CANCELED or not request.GET:
                raise
        text = f"The search took more than {LIST_TIMEOUT_S:g} s: too little matches. Narrow it by time."
        messages.error(request, text)
        return redirect(request.path)


def _give_up_after(seconds: float) -> None:
    """Bounds every statement of the present transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{int(seconds * 1000)}ms"])
