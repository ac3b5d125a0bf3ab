"""``/api/v1/tasks/``: submit, look, cancel. What streams is in ``streams.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from tasks_app import engine, metrics, operations, throttle
from tasks_app.a2a import extension, parse
from tasks_app.a2a.errors import TaskNotCancelableError, TaskNotFoundError, invalid
from tasks_app.api.serializers import SubmissionSerializer, TaskDetailSerializer, TaskSerializer
from tasks_app.authentication import Caller
from tasks_app.engine import NewTask
from tasks_app.models import Task
from tasks_app.status import Priority, TaskStatus
from tasks_app.wakeups import DISPATCH, bell, rings, worker_channel

FIELDS = ("agent", "message", "metadata", *extension.FIELDS)


def submission(data: Any, caller: Caller) -> NewTask:
    """The task that a body asks for. Raises A2AError naming the field that is unknown, missing or wrong."""
    if not isinstance(data, Mapping):
        raise invalid("body", "must be a JSON object")
    unknown = sorted(set(data) - set(FIELDS))
    if unknown:
        raise invalid(unknown[0], f"unknown; there are: {', '.join(FIELDS)}")
    spec = operations.agent_named(data.get("agent"))
    message = data.get("message")
    if isinstance(message, Mapping):
        # Over REST a message is the client's, and has an id of ours if it brings none.
        named = {} if "message_id" in message else {"messageId": str(uuid4())}
        message = {**named, "role": "ROLE_USER", **message}
    return operations.new_task(
        caller=caller,
        spec=spec,
        message=parse.message(message, path="message"),
        options=extension.parse({name: data[name] for name in extension.FIELDS if name in data}, path=""),
        metadata=parse.json_object(data.get("metadata"), path="metadata"),
        method="tasks.create",
    )


class TaskViewSet(ReadOnlyModelViewSet[Task]):
    """The caller's own tasks; another client's looks exactly like one that does not exist."""

    lookup_value_regex = "[^/]+"

    def get_queryset(self) -> QuerySet[Task]:
        caller: Caller = self.request.user  # type: ignore[assignment]
        tasks = Task.objects.filter(client_id=caller.client_id).select_related("client", "request")
        return _filtered(tasks, self.request.query_params)

    def get_serializer_class(self) -> type[TaskSerializer]:
        return TaskSerializer if self.action == "list" else TaskDetailSerializer

    def get_object(self) -> Task:
        task_id = operations.task_id(self.kwargs["pk"])
        task = self.get_queryset().filter(id=task_id).first()
        if task is None:
            raise TaskNotFoundError(f"no task '{task_id}'")
        return task

    @extend_schema(request=SubmissionSerializer, responses={201: TaskDetailSerializer})
    def create(self, request: Request) -> Response:
        """Accepts a task: 201 and the task, which is durable by then; 200 if the same message had made it before."""
        caller: Caller = request.user  # type: ignore[assignment]
        item = submission(request.data, caller)
        throttle.check(caller)
        created = engine.run(engine.create if item.max_queued is None else engine.create_within, [item])[0]
        metrics.created([item], [created])
        operations.accepted(created, caller)
        bell.ring([(DISPATCH, "")])
        task = Task.objects.select_related("client", "request").get(id=created.task_id)
        code = status.HTTP_200_OK if created.repeated else status.HTTP_201_CREATED
        headers = {"Location": f"/api/v1/tasks/{task.id}/"}
        return Response(TaskDetailSerializer(task).data, status=code, headers=headers)

    @extend_schema(request=None, responses={200: TaskDetailSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancels the task: 200 and the task, 409 if it has ended already."""
        task = self.get_object()
        cancelled = engine.run(engine.request_cancel, [task.id], by="its client")
        if not cancelled:
            task.refresh_from_db()
            raise TaskNotCancelableError(f"task {task.id} has ended already: {task.status}")
        metrics.cancelled(cancelled)
        bell.ring([*rings(task.lane, [task.id]), (worker_channel(cancelled[0].worker), "")])
        return Response(TaskDetailSerializer(self.get_object()).data)


def _filtered(tasks: QuerySet[Task], params: Mapping[str, str]) -> QuerySet[Task]:
    if "status" in params:
        if params["status"] not in TaskStatus.values:
            raise invalid("status", f"'{params['status']}' is no status; one of {', '.join(TaskStatus.values)}")
        tasks = tasks.filter(status=params["status"])
    if "priority" in params:
        try:
            tasks = tasks.filter(priority=Priority.parse(params["priority"]))
        except ValueError as error:
            raise invalid("priority", str(error)) from error
    for name in ("agent", "context_id"):
        if name in params:
            if parse.has_nul(params[name]):
                raise invalid(name, "may not hold NUL characters")
            tasks = tasks.filter(**{name: params[name]})
    return tasks
