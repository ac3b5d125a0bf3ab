"""What the doors of a caller's own things share: who asks, and which of them an address names."""

from __future__ import annotations

from typing import ClassVar, TypeVar
from uuid import UUID

from django.db.models import Model
from rest_framework.viewsets import GenericViewSet

from tasks_app.a2a import parse
from tasks_app.a2a.errors import TaskNotFoundError
from tasks_app.authentication import Caller

M = TypeVar("M", bound=Model)


class OwnViewSet(GenericViewSet[M]):
    """Over what ``get_queryset`` gives the caller; anything else looks exactly like what does not exist."""

    lookup_value_regex = "[^/]+"
    #: What it is, in errors.
    what: ClassVar[str]

    @property
    def caller(self) -> Caller:
        return self.request.user  # type: ignore[return-value]

    def get_object(self) -> M:
        known: UUID | None = parse.uuid(self.kwargs["pk"])
        found: M | None = None if known is None else self.get_queryset().filter(pk=known).first()
        if found is None:
            raise self.unknown()
        return found

    def unknown(self) -> TaskNotFoundError:
        """What is raised where there is none."""
        return TaskNotFoundError(f"no {self.what} '{self.kwargs['pk'][:100]}'")
