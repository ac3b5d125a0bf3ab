"""What the OpenAPI description says beside what drf-spectacular finds out by itself."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from tasks_app.api.serializers import ErrorSerializer


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call] # it registers itself by being defined
    """An API key, in either header."""

    target_class = "tasks_app.api.authentication.ClientAuthentication"
    name = ["bearer", "apiKey"]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return [{"type": "http", "scheme": "bearer"}, {"type": "apiKey", "in": "header", "name": "X-API-Key"}]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        """Either of them; one object with both would ask for both."""
        return [{name: []} for name in self.name]


def errors(*codes: int) -> dict[int, type[ErrorSerializer]]:
    """These answers are errors."""
    return dict.fromkeys(codes, ErrorSerializer)
