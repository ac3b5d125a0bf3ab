"""``/api/v1/artifacts/<id>/``: what is known of an artifact, and an address of its content that needs no key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Coalesce, Length
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from artifacts_app.models import Artifact, ArtifactChunk
from artifacts_app.storage.options import KINDS, kind
from tasks_app import signed_urls
from tasks_app.a2a import parse
from tasks_app.a2a.errors import invalid
from tasks_app.api.delivery import direct_url
from tasks_app.api.filters import check_params, number
from tasks_app.api.own import OwnViewSet
from tasks_app.api.schema import errors
from tasks_app.api.serializers import ArtifactSerializer
from tasks_app.models import Task


class SignedUrlSerializer(serializers.Serializer[Any]):
    """An address of an artifact's content, for whoever has it."""

    url = serializers.URLField()
    expires_at = serializers.DateTimeField()


class PartSerializer(serializers.ModelSerializer[ArtifactChunk]):
    """A part of an artifact, without its content."""

    size_bytes = serializers.IntegerField(source="length")

    class Meta:
        model = ArtifactChunk
        fields = ["kind", "media_type", "filename", "size_bytes", "metadata"]


class ArtifactDetailSerializer(ArtifactSerializer):
    """With its parts, and where they stand."""

    parts = serializers.SerializerMethodField()
    storage = serializers.SerializerMethodField()

    class Meta(ArtifactSerializer.Meta):
        fields = [*ArtifactSerializer.Meta.fields, "parts", "storage"]

    @extend_schema_field(PartSerializer(many=True))
    def get_parts(self, artifact: Artifact) -> Any:
        length = Coalesce("size_bytes", Length("content"))
        rows = artifact.chunks.current().defer("content").annotate(length=length)
        return PartSerializer(rows.order_by("generation", "position"), many=True).data

    @extend_schema_field(serializers.ListField(child=serializers.ChoiceField(["row", *KINDS])))
    def get_storage(self, artifact: Artifact) -> list[str]:
        places = artifact.chunks.current().values_list("blob__storage", flat=True).distinct()
        return sorted("row" if place is None else kind(place) for place in places)


PARAMETERS = [
    OpenApiParameter("task_id", description="The task whose they are.", required=True),
    OpenApiParameter("name", description="Only those of this name: its versions, the newest first."),
]


class ArtifactViewSet(ListModelMixin, RetrieveModelMixin, OwnViewSet[Artifact]):
    """The artifacts of the caller's own tasks; another client's look exactly like ones that do not exist."""

    what = "artifact"
    serializer_class = ArtifactSerializer

    def get_queryset(self) -> QuerySet[Artifact]:
        own = Task.objects.filter(id=OuterRef("task_id"), client_id=self.caller.client_id)
        artifacts = Artifact.objects.filter(Exists(own))
        return self._of_task(artifacts) if self.action == "list" else artifacts

    def get_serializer_class(self) -> type[ArtifactSerializer]:
        return ArtifactDetailSerializer if self.action == "retrieve" else ArtifactSerializer

    def _of_task(self, artifacts: QuerySet[Artifact]) -> QuerySet[Artifact]:
        params = self.request.query_params
        check_params(params, *(parameter.name for parameter in PARAMETERS))
        task_id = parse.uuid(params.get("task_id", ""))
        if task_id is None:
            raise invalid("task_id", "is required: a task's id")
        if parse.has_nul(params.get("name", "")):
            raise invalid("name", "may not hold NUL characters")
        return artifacts.filter(task_id=task_id, **({"name": params["name"]} if "name" in params else {}))

    @extend_schema(parameters=PARAMETERS, responses={200: ArtifactSerializer(many=True), **errors(400)})
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The artifacts of a task, the newest first, by cursor."""
        return super().list(request, *args, **kwargs)

    @extend_schema(responses={200: ArtifactDetailSerializer, **errors(404)})
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What is known of it, without its content."""
        return super().retrieve(request, *args, **kwargs)

    @extend_schema(
        parameters=[OpenApiParameter("expires_s", int, description=f"At most {signed_urls.EXPIRES_MAX_S}.")],
        responses={200: SignedUrlSerializer, **errors(400, 404)},
    )
    @action(detail=True, methods=["get"])
    def url(self, request: Request, pk: str) -> Response:
        """An address of its content that needs no key and expires: of S3 itself where all of it stands there."""
        artifact = self.get_object()
        limits = {"default": signed_urls.EXPIRES_S, "most": signed_urls.EXPIRES_MAX_S}
        expires_s = number(request.query_params, "expires_s", **limits)
        until = timezone.now() + timedelta(seconds=expires_s)
        url = direct_url(artifact.pk, client_id=self.caller.client_id, expires_s=expires_s)
        if url is None:
            path = signed_urls.path(artifact.pk, self.caller.client_id, until)
            public = str(settings.A2A_PUBLIC_URL).rstrip("/")
            url = f"{public}{path}" if public else request.build_absolute_uri(path)
        return Response(SignedUrlSerializer({"url": url, "expires_at": until.replace(microsecond=0)}).data)
