"""Artifacts: a list, a page with the preview, and the bytes for whoever may see them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from artifacts_app import blobs
from artifacts_app.models import Artifact, ArtifactChunk
from tasks_app import contents
from tasks_app.admin import looks, previews, search
from tasks_app.admin.actions import PAGE
from tasks_app.admin.base import ReadOnlyAdmin
from tasks_app.admin.filters import BeforeFilter, CreatedFilter
from tasks_app.admin.paginator import CappedList


@admin.register(Artifact)
class ArtifactAdmin(CappedList, ReadOnlyAdmin):
    list_display = ("label", "type", "size", "task", "created")
    list_display_links = ("label",)
    list_filter = (CreatedFilter, BeforeFilter)
    list_filter_submit = True
    list_per_page = 50
    search_fields = ("task_id",)
    search_help_text = "id of the artifact or of its task"
    change_form_template = "tasks_app/admin/artifact.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Artifact]:
        return Artifact.objects.defer("metadata", "description", "sha256")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Artifact], search_term: str
    ) -> tuple[QuerySet[Artifact], bool]:
        for word in search_term.split():
            bounds = search.id_range(word)
            if bounds is None:
                return queryset.none(), False
            queryset = queryset.filter(id__range=bounds) | queryset.filter(task_id__range=bounds)
        return queryset, False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        artifact = self.get_object(request, object_id)
        context: dict[str, Any] = {"subtitle": None, **(extra_context or {})}
        if artifact is not None:
            context |= {
                "title": str(artifact),
                "created": looks.when(artifact.created_at),
                "shown": previews.shown([artifact])[0],
            }
            context |= {"metadata": previews.pretty(artifact.metadata) if artifact.metadata else ""}
        return super().change_view(request, object_id, form_url, context)

    def get_fieldsets(self, request: HttpRequest, obj: Artifact | None = None) -> list[Any]:
        """None: the page is a template of its own."""
        return []

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.content)
        name = "artifacts_app_artifact_content"
        return [path("<uuid:artifact_id>/content/<int:position>/", view, name=name), *super().get_urls()]

    def content(self, request: HttpRequest, artifact_id: UUID, position: int) -> HttpResponseBase:
        """The bytes of one part: images that cannot run anything are shown, everything else is downloaded."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        parts = ArtifactChunk.objects.current().select_related("blob")
        chunk = parts.filter(artifact_id=artifact_id, position=position).first()
        if chunk is None:
            raise Http404("no such part")
        media_type = previews.base_type(chunk.media_type)
        image = media_type in previews.INLINE_IMAGES and chunk.kind != ArtifactChunk.Kind.URL
        inline = image and "download" not in request.GET
        shown_as = media_type if inline else "application/octet-stream"
        response: HttpResponseBase
        if chunk.blob is None:
            response = HttpResponse(bytes(chunk.content or b""), content_type=shown_as)
        else:
            response = StreamingHttpResponse(contents.slices(blobs.of(chunk.blob)), content_type=shown_as)
        name = quote(chunk.filename or f"artifact-{artifact_id}", safe="")
        response["Content-Disposition"] = f"{'inline' if inline else 'attachment'}; filename*=UTF-8''{name}"
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return response

    @admin.display(description="name")
    def label(self, artifact: Artifact) -> str:
        return str(artifact)

    @admin.display(description="size")
    def size(self, artifact: Artifact) -> str:
        return looks.size(artifact.size_bytes)

    @admin.display(description="task")
    def task(self, artifact: Artifact) -> SafeString:
        text = str(artifact.task_id)
        url = reverse(PAGE, args=[text])
        return format_html('<a class="a2a-id a2a-link" href="{}" title="{}">{}…</a>', url, text, text[:13])

    @admin.display(description="created")
    def created(self, artifact: Artifact) -> SafeString | str:
        return looks.when(artifact.created_at)
