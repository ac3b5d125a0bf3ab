"""Errors of the REST door: ``{"detail": …, "errors": [{"field": …, "message": …}]}`` with a 4xx status."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import RequestDataTooBig
from rest_framework import status
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from tasks_app.a2a.errors import (
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    ResourceExhaustedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
    violations,
)
from tasks_app.authentication import Forbidden, Unauthenticated

STATUS: dict[type[A2AError], int] = {
    TaskNotFoundError: status.HTTP_404_NOT_FOUND,
    TaskNotCancelableError: status.HTTP_409_CONFLICT,
    UnsupportedOperationError: status.HTTP_409_CONFLICT,
    ContentTypeNotSupportedError: status.HTTP_415_UNSUPPORTED_MEDIA_TYPE,
    ResourceExhaustedError: status.HTTP_429_TOO_MANY_REQUESTS,
    InternalError: status.HTTP_500_INTERNAL_SERVER_ERROR,
}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: A2A's errors become answers that name the field."""
    if isinstance(error, A2AError):
        code = STATUS.get(type(error), status.HTTP_400_BAD_REQUEST)
        headers = error.headers if isinstance(error, ResourceExhaustedError) else None
        return Response({"detail": error.message, "errors": violations(error)}, status=code, headers=headers)
    if isinstance(error, Unauthenticated | Forbidden):
        code = status.HTTP_401_UNAUTHORIZED if isinstance(error, Unauthenticated) else status.HTTP_403_FORBIDDEN
        return Response({"detail": str(error), "errors": []}, status=code, headers=error.headers)
    if isinstance(error, RequestDataTooBig):
        return Response({"detail": str(error), "errors": []}, status=status.HTTP_413_REQUEST_ENTITY_TOO_LARGE)
    response = drf_exception_handler(error, context)
    if response is not None:
        response.data = {"errors": [], **response.data}
    return response
