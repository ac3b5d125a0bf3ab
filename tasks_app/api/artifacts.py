"""``/api/v1/artifacts/<id>/``: what is known of an artifact, and an address of its content that needs no key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.mixins import RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from artifacts_app.models import Artifact
from tasks_app import signed_urls
from tasks_app.api.filters import number
from tasks_app.api.own import OwnViewSet
from tasks_app.api.schema import errors
from tasks_app.api.serializers import ArtifactSerializer
from tasks_app.models import Task


class SignedUrlSerializer(serializers.Serializer[Any]):
    """An address of an artifact's content, for whoever has it."""

    url = serializers.URLField()
    expires_at = serializers.DateTimeField()


class ArtifactViewSet(RetrieveModelMixin, OwnViewSet[Artifact]):
    """The artifacts of the caller's own tasks; another client's look exactly like ones that do not exist."""

    what = "artifact"
    serializer_class = ArtifactSerializer

    def get_queryset(self) -> QuerySet[Artifact]:
        own = Task.objects.filter(id=OuterRef("task_id"), client_id=self.caller.client_id)
        return Artifact.objects.filter(Exists(own))

    @extend_schema(responses={200: ArtifactSerializer, **errors(404)})
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What is known of it, without its content."""
        return super().retrieve(request, *args, **kwargs)

    @extend_schema(
        parameters=[OpenApiParameter("expires_s", int, description=f"At most {signed_urls.EXPIRES_MAX_S}.")],
        responses={200: SignedUrlSerializer, **errors(400, 404)},
    )
    @action(detail=True, methods=["get"])
    def url(self, request: Request, pk: str) -> Response:
        """An address of its content that needs no key and expires."""
        artifact = self.get_object()
        limits = {"default": signed_urls.EXPIRES_S, "most": signed_urls.EXPIRES_MAX_S}
        until = timezone.now() + timedelta(seconds=number(request.query_params, "expires_s", **limits))
        path = signed_urls.path(artifact.pk, self.caller.client_id, until)
        public = str(settings.A2A_PUBLIC_URL).rstrip("/")
        url = f"{public}{path}" if public else request.build_absolute_uri(path)
        return Response(SignedUrlSerializer({"url": url, "expires_at": until.replace(microsecond=0)}).data)
