"""DRF's hook into what a credential may be used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from tasks_app.authentication import Caller, check_scopes

if TYPE_CHECKING:
    # Its module imports this one, by a setting.
    from rest_framework.views import APIView


class HasScopes(BasePermission):
    """``tasks:read`` to look, ``tasks:write`` to change. Those of a skill are checked where its agent is known."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """True, or raises Forbidden, which names what is missing."""
        check_scopes(cast(Caller, request.user), write=request.method not in SAFE_METHODS)
        return True
