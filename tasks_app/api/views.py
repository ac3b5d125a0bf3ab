"""``/api/v1/tasks/``: submit, look, change, cancel, run again. What streams is in ``streams.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from a2a.types import Message
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from tasks_app import control, engine, filing, intake, metrics, reads, reruns, throttle
from tasks_app.a2a import extension
from tasks_app.a2a.errors import TaskNotCancelableError, UnsupportedOperationError, invalid
from tasks_app.api.filters import PARAMETERS, filtered
from tasks_app.api.own import OwnViewSet
from tasks_app.api.schema import errors
from tasks_app.api.serializers import (
    ChangeSerializer,
    FollowUpSerializer,
    SubmissionSerializer,
    TaskDetailSerializer,
    TaskSerializer,
)
from tasks_app.engine import Created
from tasks_app.models import Task
from tasks_app.submissions import said, submission
from tasks_app.wakeups import accepted, arrived, bell, delivered

CHANGEABLE = ("priority", "run_after")


def change(data: Any) -> dict[str, Any]:
    """What a body asks to change of a pending task. Raises InvalidParamsError naming the field that is wrong."""
    if not isinstance(data, Mapping):
        raise invalid("body", "must be a JSON object")
    unknown = sorted(set(data) - set(CHANGEABLE))
    if unknown:
        raise invalid(unknown[0], f"cannot be changed; what can: {', '.join(CHANGEABLE)}")
    if not data:
        raise invalid("body", f"must name {' or '.join(CHANGEABLE)}")
    for name, value in data.items():
        if value is None:
            raise invalid(name, "may not be null")
    options = extension.parse(data, path="")
    return {name: getattr(options, name) for name in data}


class TaskViewSet(OwnViewSet[Task], ReadOnlyModelViewSet[Task]):
    """The caller's own tasks; another client's looks exactly like one that does not exist."""

    what = "task"

    def get_queryset(self) -> QuerySet[Task]:
        tasks = Task.objects.filter(client_id=self.caller.client_id).select_related("client", "request")
        return filtered(tasks, self.request.query_params) if self.action == "list" else tasks

    def get_serializer_class(self) -> type[TaskSerializer]:
        return TaskSerializer if self.action == "list" else TaskDetailSerializer

    @extend_schema(parameters=PARAMETERS, responses={200: TaskSerializer(many=True), **errors(400)})
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The caller's tasks, newest first, by cursor."""
        return super().list(request, *args, **kwargs)

    @extend_schema(
        request=SubmissionSerializer,
        responses={200: TaskDetailSerializer, 201: TaskDetailSerializer, **errors(400, 415, 429)},
    )
    def create(self, request: Request) -> Response:
        """Accepts a task: 201 and the task, which is durable by then; 200 if the same message had made it before."""
        item = submission(request.data, self.caller, method="tasks.create")
        if item.depends_on:
            owned = engine.run(reads.owned, item.depends_on, client_id=self.caller.client_id)
            intake.check_needs(item.depends_on, owned, path="depends_on")
        throttle.check(self.caller)
        item = filing.filed(item)
        verb = engine.create if item.max_queued is None else engine.create_within
        created = engine.run(verb, [item])[0]
        metrics.created([item], [created])
        made = self._made(intake.accepted(created, self.caller))
        bell.ring(accepted([item]))
        return made

    @extend_schema(request=ChangeSerializer, responses={200: TaskDetailSerializer, **errors(400, 404, 409)})
    def partial_update(self, request: Request, pk: str) -> Response:
        """Gives a pending task another priority or time: 200 and the task, 409 if it is not pending."""
        changes = change(request.data)
        task = self.get_object()
        if not engine.run(engine.reschedule, [task.id], **changes):
            task.refresh_from_db()
            raise UnsupportedOperationError(f"task {task.id} is {task.status}; only what is pending can be changed")
        changed = self.get_object()
        bell.ring(arrived([changed.priority]))
        return Response(TaskDetailSerializer(changed).data)

    @extend_schema(request=FollowUpSerializer, responses={200: TaskDetailSerializer, **errors(400, 404, 409, 415, 429)})
    @action(detail=True, methods=["post"])
    def messages(self, request: Request, pk: str) -> Response:
        """Says more to a task: 200 and the task, which answers in a turn of its own; 409 if it has ended."""
        task = self.get_object()
        if not isinstance(request.data, Mapping):
            raise invalid("body", "must be a JSON object")
        message = said(request.data)
        message.task_id = message.task_id or str(task.id)
        if message.task_id != str(task.id):
            raise invalid("message.taskId", "is another task's")
        spec = intake.agent_named(task.agent)
        skill = extension.skill_of(Message.FromString(bytes(task.request.message)))
        item = intake.follow_up(caller=self.caller, spec=spec, message=message, context_id=task.context_id, skill=skill)
        throttle.check(self.caller)
        done = engine.run(engine.deliver, [filing.filed(item)])
        bell.ring(delivered(done))
        intake.delivered(done[0])
        return Response(TaskDetailSerializer(self.get_object()).data)

    @extend_schema(request=None, responses={201: TaskDetailSerializer, **errors(404, 409, 429)})
    @action(detail=True, methods=["post"])
    def rerun(self, request: Request, pk: str) -> Response:
        """Makes a new task of one that has ended: 201 and the new task, 409 if it has not ended."""
        task = self.get_object()
        created = reruns.rerun([task], self.caller)
        if not created:
            raise self.unknown()
        return self._made(created[0])

    @extend_schema(request=None, responses={200: TaskDetailSerializer, **errors(404, 409)})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancels the task: 200 and the task, 409 if it has ended already."""
        task = self.get_object()
        if not control.cancel([task.id], by="its client"):
            task.refresh_from_db()
            raise TaskNotCancelableError(f"task {task.id} has ended already: {task.status}")
        return Response(TaskDetailSerializer(self.get_object()).data)

    def _made(self, created: Created) -> Response:
        task = Task.objects.select_related("client", "request").get(id=created.task_id)
        code = status.HTTP_200_OK if created.repeated else status.HTTP_201_CREATED
        headers = {"Location": f"/api/v1/tasks/{task.id}/"}
        return Response(TaskDetailSerializer(task).data, status=code, headers=headers)
