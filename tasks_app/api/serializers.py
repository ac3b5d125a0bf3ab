"""What the REST door shows of tasks, and the shape of what it takes."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from google.protobuf.json_format import MessageToDict
from rest_framework import serializers

from artifacts_app.models import Artifact
from tasks_app import engine
from tasks_app.addresses import content_path
from tasks_app.models import Checkpoint, Task, TaskAttempt
from tasks_app.status import Priority, TaskStatus
from tasks_app.waiting import waiting_for


class SubmissionSerializer(serializers.Serializer[Any]):
    """A task to submit. Only describes the body: ``views.submission`` checks it, as the A2A door does."""

    agent = serializers.CharField(help_text="The agent's name.")
    message = serializers.JSONField(help_text="An A2A 1.0 Message as JSON; messageId and role may be left out.")
    skill = serializers.CharField(required=False, help_text="The id of one of the agent's skills.")
    priority = serializers.ChoiceField(choices=Priority.labels, default="normal")
    timeout_s = serializers.FloatField(required=False, help_text="The longest one attempt may run, in seconds.")
    start_deadline_s = serializers.FloatField(
        required=False, help_text="It fails if it has not started so many seconds after it may run."
    )
    run_after = serializers.DateTimeField(required=False, help_text="Not before this instant.")
    depends_on = serializers.ListField(
        child=serializers.UUIDField(), required=False, help_text="Tasks that must have completed before it runs."
    )
    parameters = serializers.DictField(required=False, help_text="By the agent's JSON Schema.")
    resources = serializers.DictField(required=False, help_text="memory_mb, cores, disk_mb, cpu_s.")
    metadata = serializers.DictField(required=False)


class FollowUpSerializer(serializers.Serializer[Any]):
    """A further message to a task. Only describes the body, as above."""

    message = serializers.JSONField(help_text="An A2A 1.0 Message as JSON; messageId and role may be left out.")


class ChangeSerializer(serializers.Serializer[Any]):
    """What may be changed of a task that is pending. Only describes the body, as above."""

    priority = serializers.ChoiceField(choices=Priority.labels, required=False)
    run_after = serializers.DateTimeField(required=False, help_text="Not before this instant; at once, if it is past.")


class WrongFieldSerializer(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="Where it stands in the request, or the name of the limit that is reached.")
    message = serializers.CharField()


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error of this door."""

    detail = serializers.CharField()
    errors = WrongFieldSerializer(many=True)  # type: ignore[assignment] # DRF takes the fields off the class


class ReasonSerializer(serializers.Serializer[Any]):
    """Why a task waits; see ``tasks_app/waiting.py`` for the codes."""

    code = serializers.CharField()
    message = serializers.CharField()


class ArtifactSerializer(serializers.ModelSerializer[Artifact]):
    content_url = serializers.SerializerMethodField()
    sha256 = serializers.SerializerMethodField()

    class Meta:
        model = Artifact
        fields = [
            "id",
            "artifact_id",
            "task_id",
            "name",
            "version",
            "description",
            "type",
            "size_bytes",
            "sha256",
            "metadata",
            "created_at",
            "content_url",
        ]

    def get_content_url(self, artifact: Artifact) -> str:
        return content_path(artifact.id)

    def get_sha256(self, artifact: Artifact) -> str | None:
        return None if artifact.sha256 is None else bytes(artifact.sha256).hex()


class AttemptSerializer(serializers.ModelSerializer[TaskAttempt]):
    """A run of a task. Its traceback is for operators and stays in the admin."""

    class Meta:
        model = TaskAttempt
        fields = [
            "number",
            "worker",
            "pid",
            "claimed_at",
            "ended_at",
            "released_at",
            "outcome",
            "error",
            "peak_rss_bytes",
            "cpu_s",
            "disk_bytes",
        ]


class CheckpointSerializer(serializers.ModelSerializer[Checkpoint]):
    """That there is a checkpoint. What it holds is between an agent's attempts."""

    class Meta:
        model = Checkpoint
        fields = ["name", "attempt", "created_at"]


class TaskSerializer(serializers.ModelSerializer[Task]):
    """A task in a list."""

    priority = serializers.CharField(source="get_priority_display")
    client = serializers.CharField(source="client.name")
    method = serializers.CharField()
    batch_id = serializers.UUIDField(allow_null=True)
    rerun_of = serializers.UUIDField(source="rerun_of_id", allow_null=True)
    parameters = serializers.JSONField()
    resources = serializers.JSONField()
    metadata = serializers.JSONField()

    class Meta:
        model = Task
        fields = [
            "id",
            "method",
            "agent",
            "lane",
            "client",
            "priority",
            "status",
            "progress",
            "error",
            "context_id",
            "batch_id",
            "batch_index",
            "rerun_of",
            "parameters",
            "resources",
            "metadata",
            "attempt",
            "spent",
            "max_attempts",
            "epoch",
            "generation",
            "timeout_s",
            "run_after",
            "start_deadline_at",
            "created_at",
            "updated_at",
            "started_at",
            "timeout_at",
            "input_expires_at",
            "completed_at",
        ]


class TaskDetailSerializer(TaskSerializer):
    """A task by itself: with why it waits, its messages, artifacts, attempts and checkpoints."""

    waiting_for = serializers.SerializerMethodField()
    depends_on = serializers.SerializerMethodField()
    messages = serializers.SerializerMethodField()
    artifacts = ArtifactSerializer(many=True)
    attempts = serializers.SerializerMethodField()
    checkpoints = serializers.SerializerMethodField()
    lease_expires_at = serializers.SerializerMethodField()

    class Meta(TaskSerializer.Meta):
        fields = [
            *TaskSerializer.Meta.fields,
            "lease_expires_at",
            "waiting_for",
            "depends_on",
            "messages",
            "artifacts",
            "attempts",
            "checkpoints",
        ]

    @extend_schema_field(ReasonSerializer(many=True))
    def get_waiting_for(self, task: Task) -> list[dict[str, str]]:
        if task.status != TaskStatus.PENDING:
            return []
        return [reason._asdict() for reason in engine.run(waiting_for, task.id)]

    @extend_schema_field(serializers.ListField(child=serializers.UUIDField()))
    def get_depends_on(self, task: Task) -> list[str]:
        return [str(needed) for needed in task.dependencies.order_by("needs_id").values_list("needs_id", flat=True)]

    def get_messages(self, task: Task) -> list[dict[str, Any]]:
        return [MessageToDict(message) for message in task.messages]

    @extend_schema_field(AttemptSerializer(many=True))
    def get_attempts(self, task: Task) -> list[dict[str, Any]]:
        return list(AttemptSerializer(task.attempts.order_by("number"), many=True).data)

    @extend_schema_field(CheckpointSerializer(many=True))
    def get_checkpoints(self, task: Task) -> list[dict[str, Any]]:
        return list(CheckpointSerializer(task.checkpoints.order_by("created_at", "name"), many=True).data)

    def get_lease_expires_at(self, task: Task) -> str | None:
        attempt = task.attempts.filter(id=task.lease_id).first() if task.lease_id else None
        return attempt.lease_expires_at.isoformat() if attempt else None
