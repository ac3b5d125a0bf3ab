"""What the admin's pages share: a typed base, read-only pages, confirmed actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.decorators import action as unfold_action
from unfold.enums import ActionVariant

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    # Unfold has no types; its admin has the interface of Django's.
    Admin = admin.ModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin as Admin

F = TypeVar("F", bound=Callable[..., Any])


class ReadOnlyAdmin(Admin):
    """A page to look at: nobody adds, changes or deletes, whatever the permissions say."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def detail_action(*, description: str, permission: str, icon: str, danger: bool = True) -> Callable[[F], F]:
    """Marks a method as a button of an object's page, for users with ``has_<permission>_permission``."""
    variant = ActionVariant.DANGER if danger else ActionVariant.DEFAULT
    made = unfold_action(
        description=description, permissions=[permission], icon=icon, variant=variant, attrs={"data-live-button": ""}
    )
    return cast(Callable[[F], F], made)


def may(request: HttpRequest, permission: str) -> bool:
    """Whether the user holds this permission, e.g. ``tasks_app.change_task``; nobody signed in does not."""
    user = cast("User", request.user)
    return user.is_active and user.has_perm(permission)


def confirmation(
    request: HttpRequest, model_admin: Admin, *, title: str, submit: str, back: str, danger: bool = True, **context: Any
) -> TemplateResponse:
    """The page that asks before something happens. Its form posts to ``post_to``, by default to this same address.

    ``notes`` are sentences, ``form`` a form of what is asked, ``fields`` are hidden; ``danger`` paints the button red.
    """
    shared = model_admin.admin_site.each_context(request)
    values = {"title": title, "submit": submit, "back": back, "danger": danger, "opts": model_admin.opts, **context}
    return TemplateResponse(request, "tasks_app/admin/confirm.html", shared | values)


def audit(request: HttpRequest, rows: Iterable[Model], text: str) -> None:
    """Puts on record, in Django's log of the admin, what the user did to each of these."""
    found = list(rows)
    if found:
        LogEntry.objects.log_actions(cast("User", request.user).pk, found, CHANGE, text)


def back_from(request: HttpRequest, default: str) -> str:
    """Where a confirmed form leads back to: the address of this site that it posts as ``back``."""
    url = request.POST.get("back", "")
    return url if url_has_allowed_host_and_scheme(url, allowed_hosts={request.get_host()}) else default
