"""DRF's hook into the one authentication all doors share."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from tasks_app.authentication import REALM, Caller, identify, remembered


class ClientAuthentication(BaseAuthentication):
    """``request.user`` is the :class:`~tasks_app.authentication.Caller`. What it raises is answered by ``errors``."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer = request.META.get("REMOTE_ADDR")
        return remembered(headers, peer) or identify(headers, peer), None

    def authenticate_header(self, request: Request) -> str:
        return REALM
