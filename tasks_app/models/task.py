"""The task: a narrow hot row, and beside it the immutable request that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from tasks_app.models.batch import Batch
from tasks_app.models.client import Client
from tasks_app.status import INTERRUPTED, TERMINAL, Lane, Priority, TaskStatus

if TYPE_CHECKING:
    from a2a.types import Message

    from artifacts_app.models import Artifact

_TERMINAL = sorted(TERMINAL)
#: The states in which a turn has ended and no message may wait for the next one.
_ANSWERED = sorted({TaskStatus.COMPLETED, *INTERRUPTED})


class Task(models.Model):
    """An A2A task. ``tasks_app.engine`` is the only writer; see ``tasks_app.status`` for who moves each state on.

    No index mentions ``progress``, ``updated_at`` or the lease, so that the frequent updates stay HOT.
    """

    #: UUIDv7, made by the process that accepted the request: ids sort by time.
    id = models.UUIDField(primary_key=True, editable=False)
    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    agent = models.CharField(max_length=64)
    lane = models.CharField(max_length=8, choices=Lane.choices)
    priority = models.SmallIntegerField(choices=Priority.choices, default=Priority.NORMAL)
    context_id = models.CharField(max_length=128)
    batch = models.ForeignKey(
        Batch, null=True, blank=True, on_delete=models.PROTECT, related_name="tasks", db_index=False
    )
    #: Its place in the batch, which is that of its item in the request; null once a rerun of it has taken the place.
    batch_index = models.IntegerField(null=True, editable=False)
    rerun_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="reruns", db_index=False
    )

    status = models.CharField(max_length=16, choices=TaskStatus.choices, default=TaskStatus.PENDING)
    #: Since when it is in this state.
    status_at = models.DateTimeField(db_default=Now())
    #: 0.0–1.0, monotone within an attempt; set to 0 by a claim and to 1 by completion.
    progress = models.FloatField(default=0.0)
    #: The A2A Message that came with the present status, as protobuf bytes.
    status_message = models.BinaryField(null=True)
    #: Why it failed or was rejected: ``{"code": …, "message": …}``.
    error = models.JSONField(null=True, blank=True)

    #: Claimed runs so far: the number of the newest attempt.
    attempt = models.PositiveIntegerField(default=0)
    #: Attempts that count against ``max_attempts``: a deploy, a snooze or a crash of a shared process spends none.
    spent = models.PositiveIntegerField(default=0, db_default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    #: How often a process that ran it among others died; after two it runs in a process of its own (``engine/rescue``).
    crashes = models.PositiveIntegerField(default=0, db_default=0)
    #: Orders the rights to write: raised by a claim and by every exit from running.
    epoch = models.IntegerField(default=0)
    #: The attempt that may write now; null unless running. Its expiry stands in TaskAttempt.
    lease = models.ForeignKey(
        "TaskAttempt",
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    #: The number of the newest event; starts at 1, one more per change.
    generation = models.IntegerField(default=1)
    #: Events the present attempt has recorded: a write that is repeated after its answer was lost is recognised by it.
    recorded = models.IntegerField(default=0, db_default=0)
    #: Follow-up messages that have come: ``InboxMessage`` 1..n.
    inbox_seq = models.IntegerField(default=0, db_default=0)
    #: The message that the present turn, or the next one, answers: 0 is the request's own, n the n-th follow-up.
    consumed_seq = models.IntegerField(default=0, db_default=0)
    #: The event that made the present turn possible; 0 in the first. What came before it stands, whatever is retried.
    turn_generation = models.IntegerField(default=0, db_default=0)

    #: Not before this instant, which is never before its creation. Waiting counts from here: see ``dispatch/plan``.
    run_after = models.DateTimeField()
    #: What it needs of a worker, as asked or as its agent declares; 0 is «not said», and is always there.
    memory_mb = models.PositiveIntegerField(default=0, db_default=0)
    cores = models.FloatField(default=0.0, db_default=0.0)
    disk_mb = models.PositiveIntegerField(default=0, db_default=0)
    #: How many of the tasks that it needs have not completed yet (``TaskDependency``); until then nothing admits it.
    deps_left = models.PositiveIntegerField(default=0, db_default=0)
    #: Set when the dispatcher lets it into the broker; null again once claimed or un-admitted.
    admitted_at = models.DateTimeField(null=True)
    republish_at = models.DateTimeField(null=True)
    publishes = models.SmallIntegerField(default=0)

    timeout_s = models.FloatField()
    #: It must have started by then, or it fails.
    start_deadline_at = models.DateTimeField(null=True, blank=True)
    #: While it waits for its client: the answer must have come by then, or it fails.
    input_expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    #: The first claim.
    started_at = models.DateTimeField(null=True)
    #: The present attempt must have ended by then; set at each claim.
    timeout_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # Groups of equals one behind the other, so that the dispatcher takes the heads of each and sorts nothing.
            models.Index(
                "lane",
                "priority",
                "agent",
                "client",
                "run_after",
                "id",
                name="task_dispatch_idx",
                condition=Q(status=TaskStatus.PENDING, admitted_at__isnull=True, deps_left=0),
            ),
            models.Index(
                "republish_at",
                name="task_republish_idx",
                condition=Q(status=TaskStatus.PENDING, admitted_at__isnull=False),
            ),
            models.Index("lane", name="task_running_idx", condition=Q(status=TaskStatus.RUNNING)),
            models.Index("client", name="task_client_pending_idx", condition=Q(status=TaskStatus.PENDING)),
            models.Index(
                "start_deadline_at",
                name="task_start_deadline_idx",
                condition=Q(status=TaskStatus.PENDING, start_deadline_at__isnull=False),
            ),
            models.Index("input_expires_at", name="task_input_expiry_idx", condition=Q(input_expires_at__isnull=False)),
            models.Index("status", "completed_at", name="task_ended_idx", condition=Q(completed_at__isnull=False)),
            models.Index(
                "agent",
                "status",
                "completed_at",
                name="task_agent_ended_idx",
                condition=Q(completed_at__isnull=False),
            ),
            models.Index("client", F("id").desc(), name="task_client_newest_idx"),
            # For ListTasks: a client's tasks of an agent and a state, what changed last first (A2A 1.0, section 3.1.4).
            models.Index("client", "agent", "status", F("status_at").desc(), F("id").desc(), name="task_list_idx"),
            models.Index("client", "context_id", name="task_context_idx"),
            models.Index(
                "batch",
                name="task_batch_open_idx",
                condition=Q(batch_index__isnull=False, completed_at__isnull=True),
            ),
            models.Index("rerun_of", name="task_rerun_idx", condition=Q(rerun_of__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(name="task_status_known", condition=Q(status__in=TaskStatus.values)),
            models.CheckConstraint(name="task_lane_known", condition=Q(lane__in=Lane.values)),
            models.CheckConstraint(name="task_priority_known", condition=Q(priority__in=Priority.values)),
            models.CheckConstraint(name="task_progress_0_to_1", condition=Q(progress__gte=0.0, progress__lte=1.0)),
            models.CheckConstraint(
                name="task_completed_at_iff_terminal",
                condition=Q(status__in=_TERMINAL, completed_at__isnull=False)
                | (~Q(status__in=_TERMINAL) & Q(completed_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_leased_iff_running",
                condition=Q(status=TaskStatus.RUNNING, lease__isnull=False)
                | (~Q(status=TaskStatus.RUNNING) & Q(lease__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_admitted_only_pending",
                condition=Q(admitted_at__isnull=True) | Q(status=TaskStatus.PENDING, deps_left=0),
            ),
            models.CheckConstraint(name="task_timeout_positive", condition=Q(timeout_s__gt=0)),
            models.CheckConstraint(
                name="task_counts_sane", condition=Q(generation__gte=1, epoch__gte=0, attempt__gte=0)
            ),
            models.CheckConstraint(
                name="task_input_expires_only_interrupted",
                condition=Q(input_expires_at__isnull=True)
                | Q(status__in=[TaskStatus.INPUT_REQUIRED, TaskStatus.AUTH_REQUIRED]),
            ),
            models.UniqueConstraint(
                fields=["batch", "batch_index"], name="task_batch_place_once", condition=Q(batch__isnull=False)
            ),
            models.CheckConstraint(
                name="task_batch_place_in_batch",
                condition=Q(batch_index__isnull=True) | Q(batch__isnull=False, batch_index__gte=0),
            ),
            models.CheckConstraint(name="task_cores_not_negative", condition=Q(cores__gte=0.0)),
            models.CheckConstraint(
                name="task_consumes_what_came",
                condition=Q(consumed_seq__gte=0, consumed_seq__lte=F("inbox_seq"), turn_generation__gte=0),
            ),
            # A message that was accepted has its turn, or its task ends otherwise than well.
            models.CheckConstraint(
                name="task_no_message_unread",
                condition=Q(consumed_seq=F("inbox_seq")) | ~Q(status__in=_ANSWERED),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent} {self.id}"

    @property
    def method(self) -> str:
        """The operation that made it."""
        return self.request.method

    @property
    def messages(self) -> list[Message]:
        """The conversation, oldest first: the client's message, then those that either side sent."""
        from tasks_app.a2a.wire import history

        return history(self)

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.request.parameters)

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self.request.metadata)

    @property
    def resources(self) -> dict[str, Any]:
        return dict(self.request.resources)

    @property
    def artifacts(self) -> models.QuerySet[Artifact]:
        from artifacts_app.models import Artifact

        return Artifact.objects.filter(task_id=self.id).order_by("created_at", "id")


class TaskRequest(models.Model):
    """What was asked, as it came; never changed.

    Unique per client, agent and message id: the same message sent again finds the same task.
    """

    task = models.OneToOneField(Task, on_delete=models.CASCADE, primary_key=True, related_name="request")
    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="+", db_index=False)
    agent = models.CharField(max_length=64)
    message_id = models.CharField(max_length=256)
    #: SHA-256 of all that was asked; tells a repeat from another request under the same message id.
    digest = models.BinaryField(max_length=32)
    #: The operation, e.g. ``SendMessage``.
    method = models.CharField(max_length=32)
    #: The A2A Message as protobuf bytes.
    message = models.BinaryField()
    parameters = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict)
    resources = models.JSONField(default=dict)
    #: The media types that the client takes as an answer; empty if it did not say.
    accepted_output_modes = ArrayField(models.TextField(), default=list, db_default=[])

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["client", "agent", "message_id"], name="request_message_once"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.message_id}"


class TaskDependency(models.Model):
    """A task runs only after another has completed, and fails if that ends otherwise: ``engine/dependencies.py``."""

    pk = models.CompositePrimaryKey("task_id", "needs_id")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, db_index=False, related_name="dependencies")
    #: No constraint: what is pruned leaves those that needed it, which by then have seen its end.
    needs = models.ForeignKey(Task, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    #: When its end was seen.
    settled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index("needs", name="dependency_open_idx", condition=Q(settled_at__isnull=True))]
        constraints = [models.CheckConstraint(name="dependency_of_another", condition=~Q(task=F("needs")))]

    def __str__(self) -> str:
        return f"{self.task_id} needs {self.needs_id}"
