"""``/api/v1/batches/``: many tasks submitted, looked at, cancelled and run again as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from tasks_app import batches, control, reruns
from tasks_app.a2a.errors import TaskNotCancelableError, UnsupportedOperationError
from tasks_app.api.filters import check_params
from tasks_app.api.own import OwnViewSet
from tasks_app.api.parsers import FastJSONParser, NDJSONParser
from tasks_app.api.schema import errors
from tasks_app.engine import Tally
from tasks_app.models import Batch
from tasks_app.status import TaskStatus

KEY = OpenApiParameter(
    "Idempotency-Key", location=OpenApiParameter.HEADER, description="The same request again is the same batch."
)


class BatchSubmissionSerializer(serializers.Serializer[Any]):
    """A batch to submit. Only describes the body: ``tasks_app/batches.py`` checks it."""

    name = serializers.CharField(required=False)
    metadata = serializers.DictField(required=False)
    defaults = serializers.DictField(required=False, help_text="What every task says that does not say otherwise.")
    atomic = serializers.BooleanField(default=True, help_text="False: those that are right, whatever the others are.")
    callback = serializers.DictField(
        required=False, help_text="An A2A push notification config: url, token, authentication."
    )
    tasks = serializers.ListField(child=serializers.DictField(), max_length=batches.SIZE_MAX)


class RefusedSerializer(serializers.Serializer[Any]):
    """An item that was not accepted."""

    index = serializers.IntegerField()
    field = serializers.CharField(help_text="Where it stands in the item; empty: the item itself.")
    message = serializers.CharField()


class BatchSerializer(serializers.ModelSerializer[Batch]):
    """A batch. Its counts and its progress are those of the tasks that were not run again."""

    refused = RefusedSerializer(many=True)
    counts = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField()

    class Meta:
        model = Batch
        fields = ["id", "name", "size", "refused", "counts", "progress", "metadata", "created_at", "completed_at"]

    def get_counts(self, batch: Batch) -> dict[str, int]:
        return {status: self._tally(batch).counts.get(status, 0) for status in TaskStatus.values}

    def get_progress(self, batch: Batch) -> float:
        tally = self._tally(batch)
        return tally.progress / max(1, sum(tally.counts.values()))

    def _tally(self, batch: Batch) -> Tally:
        found: Tally = self.context["tallies"][batch.id]
        return found


def shown(found: Sequence[Batch]) -> list[dict[str, Any]]:
    """The batches as this door shows them."""
    tallies = batches.tallies(found)
    return [dict(BatchSerializer(batch, context={"tallies": tallies}).data) for batch in found]


class BatchViewSet(OwnViewSet[Batch], ReadOnlyModelViewSet[Batch]):
    """The caller's own batches; another client's looks exactly like one that does not exist."""

    what = "batch"
    serializer_class = BatchSerializer
    parser_classes = [FastJSONParser, NDJSONParser]

    def get_queryset(self) -> QuerySet[Batch]:
        return Batch.objects.filter(client_id=self.caller.client_id)

    @extend_schema(responses={200: BatchSerializer(many=True), **errors(400)})
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The caller's batches, newest first, by cursor."""
        check_params(request.query_params)
        return self.get_paginated_response(shown(self.paginate_queryset(self.get_queryset()) or []))

    @extend_schema(responses={200: BatchSerializer, **errors(404)})
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A batch as it stands."""
        return Response(shown([self.get_object()])[0])

    @extend_schema(
        request=BatchSubmissionSerializer,
        parameters=[KEY],
        responses={200: BatchSerializer, 201: BatchSerializer, **errors(400, 429)},
    )
    def create(self, request: Request) -> Response:
        """Accepts a batch: 201 when all of its tasks are durable; 200 if the same request had made it before.

        As ``application/x-ndjson``, a task in each line; the first may be ``{"batch": {…}}`` with the other fields.
        """
        asked = batches.asked(request.data, key=request.headers.get("Idempotency-Key", ""))
        made = batches.make(asked, self.caller)
        code = status.HTTP_200_OK if made.repeated else status.HTTP_201_CREATED
        headers = {"Location": f"/api/v1/batches/{made.batch_id}/"}
        return Response(self._shown(made.batch_id), status=code, headers=headers)

    @extend_schema(request=None, responses={200: BatchSerializer, **errors(404, 409)})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancels those of its tasks that have not ended: 200 and the batch, 409 if all have."""
        batch = self.get_object()
        if not control.cancel(batch.open_ids(), by="its client"):
            raise TaskNotCancelableError(f"every task of batch {batch.id} has ended already")
        return Response(self._shown(batch.id))

    @extend_schema(request=None, responses={200: BatchSerializer, **errors(404, 409, 429)})
    @action(detail=True, methods=["post"])
    def rerun(self, request: Request, pk: str) -> Response:
        """Runs those of its tasks again that failed: 200 and the batch, which counts the new ones; 409 if none did."""
        batch = self.get_object()
        if not reruns.rerun(list(batch.failed.select_related("request")), self.caller, placed=True):
            raise UnsupportedOperationError(f"no task of batch {batch.id} has failed")
        return Response(self._shown(batch.id))

    def _shown(self, batch_id: UUID) -> dict[str, Any]:
        return shown([Batch.objects.get(id=batch_id)])[0]
