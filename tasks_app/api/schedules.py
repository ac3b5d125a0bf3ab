"""``/api/v1/schedules/``: recurring tasks; when they fire next, and what became of the fires."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from tasks_app.a2a.errors import UnsupportedOperationError, invalid
from tasks_app.api.filters import check_params
from tasks_app.api.own import OwnViewSet
from tasks_app.api.schema import errors
from tasks_app.models import Fire, Schedule
from tasks_app.schedules import asked, fire, times


class ScheduleSubmissionSerializer(serializers.Serializer[Any]):
    """A schedule. Only describes the body: ``tasks_app/schedules/asked.py`` checks it."""

    name = serializers.CharField()
    task = serializers.DictField(help_text="As POST /api/v1/tasks/ takes it, without messageId and run_after.")
    cron = serializers.CharField(required=False, help_text="Minute, hour, day of month, month, day of week.")
    timezone = serializers.CharField(default="UTC", help_text="Of the cron line.")
    every_s = serializers.IntegerField(required=False)
    at = serializers.DateTimeField(required=False, help_text="Once.")
    solar = serializers.DictField(required=False, help_text="event, latitude, longitude.")
    overlap = serializers.ChoiceField(choices=Schedule.Overlap.choices, default="skip")
    catch_up = serializers.ChoiceField(choices=Schedule.CatchUp.choices, default="last")
    jitter_s = serializers.FloatField(default=0.0)


class FireSerializer(serializers.ModelSerializer[Fire]):
    """What became of an instant."""

    task_id = serializers.UUIDField(allow_null=True)

    class Meta:
        model = Fire
        fields = ["at", "outcome", "task_id", "is_manual", "reason", "created_at"]


class ScheduleSerializer(serializers.ModelSerializer[Schedule]):
    """A schedule: what it makes, when (as it was asked for), the next five fires, and the last."""

    when = serializers.SerializerMethodField()
    next_fires = serializers.SerializerMethodField()
    last_fire = serializers.SerializerMethodField()

    class Meta:
        model = Schedule
        fields = [
            *("id", "name", "task", "when", "overlap", "catch_up", "jitter_s", "paused_at", "next_fires", "last_fire"),
            "created_at",
        ]

    def get_when(self, schedule: Schedule) -> dict[str, Any]:
        return asked.said(schedule)

    def get_next_fires(self, schedule: Schedule) -> list[str]:
        return [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in times.upcoming(schedule)]

    def get_last_fire(self, schedule: Schedule) -> dict[str, Any] | None:
        last = schedule.fires.first()
        return None if last is None else dict(FireSerializer(last).data)


class ScheduleViewSet(OwnViewSet[Schedule], ReadOnlyModelViewSet[Schedule]):
    """The caller's own schedules; another client's looks exactly like one that does not exist."""

    what = "schedule"
    serializer_class = ScheduleSerializer

    def get_queryset(self) -> QuerySet[Schedule]:
        kinds = ("client", "crontab", "interval", "solar", "clocked")
        return Schedule.objects.filter(client_id=self.caller.client_id).select_related(*kinds)

    @extend_schema(responses={200: ScheduleSerializer(many=True), **errors(400)})
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The caller's schedules, newest first, by cursor."""
        check_params(request.query_params)
        return super().list(request, *args, **kwargs)

    @extend_schema(responses={200: ScheduleSerializer, **errors(404)})
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A schedule, with its next five fires."""
        return super().retrieve(request, *args, **kwargs)

    @extend_schema(request=ScheduleSubmissionSerializer, responses={201: ScheduleSerializer, **errors(400)})
    def create(self, request: Request) -> Response:
        """Makes a schedule: 201 and the schedule."""
        now = fire.clock()
        made = Schedule(client_id=self.caller.client_id, created_at=now)
        with _named_once(), transaction.atomic():
            asked.put(made, request.data, self.caller, now=now)
            made.save(force_insert=True)
        headers = {"Location": f"/api/v1/schedules/{made.pk}/"}
        return Response(self._shown(made.pk), status=status.HTTP_201_CREATED, headers=headers)

    @extend_schema(request=ScheduleSubmissionSerializer, responses={200: ScheduleSerializer, **errors(400, 404)})
    def partial_update(self, request: Request, pk: str) -> Response:
        """Changes what the body says of it: 200 and the schedule. What was due by another time is nobody's."""
        with _named_once(), transaction.atomic():
            schedule = self._locked()
            put = asked.put(schedule, request.data, self.caller, now=fire.clock())
            if put:
                schedule.save(update_fields=put)
            fire.forget_queue(schedule)
        return Response(self._shown(schedule.pk))

    @extend_schema(responses={204: None, **errors(404)})
    def destroy(self, request: Request, pk: str) -> Response:
        """Deletes it, with its history. Its tasks stay."""
        with transaction.atomic():
            self._locked().delete()
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses={200: ScheduleSerializer, **errors(404, 409)})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Lets it fire no more until it is resumed: 200, or 409 if it is paused."""
        return self._switched(fire.pause, "is paused already")

    @extend_schema(request=None, responses={200: ScheduleSerializer, **errors(404, 409)})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Lets it fire again, from now on: 200, or 409 if it is not paused."""
        return self._switched(fire.resume, "is not paused")

    @extend_schema(request=None, responses={201: FireSerializer, **errors(404)})
    @action(detail=True, methods=["post"])
    def run(self, request: Request, pk: str) -> Response:
        """Makes its task now, whether it is paused and whatever still runs: 201 and the fire."""
        schedule = self.get_object()
        try:
            made = fire.run_now(schedule)
        except Schedule.DoesNotExist:
            raise self.unknown() from None
        return Response(FireSerializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={200: FireSerializer(many=True), **errors(400, 404)})
    @action(detail=True, methods=["get"])
    def fires(self, request: Request, pk: str) -> Response:
        """What became of its instants, the newest first, by cursor."""
        check_params(request.query_params)
        history: Any = self.get_object().fires.all()
        page: Any = self.paginate_queryset(history)
        return self.get_paginated_response(FireSerializer(page, many=True).data)

    def _locked(self) -> Schedule:
        """The schedule, which nobody else fires or changes until the transaction ends."""
        try:
            return fire.locked(self.get_object().pk)
        except Schedule.DoesNotExist:
            raise self.unknown() from None

    def _switched(self, switch: Any, refusal: str) -> Response:
        schedule = self.get_object()
        if not switch(schedule):
            raise UnsupportedOperationError(f"schedule {schedule.pk} {refusal}")
        return Response(self._shown(schedule.pk))

    def _shown(self, pk: UUID) -> dict[str, Any]:
        return dict(ScheduleSerializer(self.get_queryset().get(pk=pk)).data)


@contextmanager
def _named_once() -> Iterator[None]:
    """Raises InvalidParamsError where the name is another's of the same client."""
    try:
        yield
    except IntegrityError as error:
        if "schedule_name_once" not in str(error):
            raise
        raise invalid("name", "there is a schedule of this name already") from None
