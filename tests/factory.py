"""Makes tasks in any state, by the engine's own verbs."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from a2a.types import Message, Part, Role

from tasks_app import engine
from tasks_app.dispatch.plan import Plan, Rules
from tasks_app.engine import Claim, ClaimRequest, Delivered, Finish, FollowUp, Hint, Lost, NewTask, Write, Written
from tasks_app.models import Client, Outcome, Task
from tasks_app.status import INTERRUPTED, Lane, Priority, TaskStatus
from workers import storing


def new_task(owner: Client, **fields: Any) -> NewTask:
    """A task to accept, with what is not named made up."""
    message_id = fields.pop("message_id", str(uuid4()))
    message = Message(message_id=message_id, role=Role.ROLE_USER, parts=[Part(text="hello")])
    defaults: dict[str, Any] = {
        "client_id": owner.pk,
        "agent": "echo",
        "lane": Lane.IO,
        "context_id": "context",
        "message_id": message_id,
        "message": message.SerializeToString(deterministic=True),
        "method": "SendMessage",
        "priority": Priority.NORMAL,
        "timeout_s": 60.0,
        "max_attempts": 3,
    }
    return NewTask(**{**defaults, **fields})


def follow_up(task: Task, text: str = "further", **fields: Any) -> FollowUp:
    """A client's message to its task, with what is not named made up."""
    message_id = fields.pop("message_id", str(uuid4()))
    message = Message(message_id=message_id, task_id=str(task.id), role=Role.ROLE_USER, parts=[Part(text=text)])
    defaults: dict[str, Any] = {
        "task_id": task.id,
        "client_id": task.client_id,
        "agent": task.agent,
        "message_id": message_id,
        "message": message.SerializeToString(deterministic=True),
    }
    return FollowUp(**{**defaults, **fields})


def claim_request(task_id: UUID, epoch: int = 0, *, worker: str = "worker-1") -> ClaimRequest:
    return ClaimRequest(task_id=task_id, epoch=epoch, attempt_id=uuid4(), worker=worker, pid=1)


def completed(message: bytes | None = None) -> Finish:
    return Finish(status=TaskStatus.COMPLETED, outcome=Outcome.COMPLETED, message=message)


def asks(status: TaskStatus = TaskStatus.INPUT_REQUIRED, message: bytes | None = None) -> Finish:
    """The end of a turn whose handler needs its client."""
    return Finish(status=status, outcome=Outcome.INTERRUPTED, message=message, wait_s=60, spend=False)


class Factory:
    """Tasks of one client, moved on step by step."""

    def __init__(self, owner: Client) -> None:
        self.owner = owner

    def pending(self, **fields: Any) -> UUID:
        return engine.run(engine.create, [new_task(self.owner, **fields)])[0].task_id

    def admitted(self, **fields: Any) -> UUID:
        task_id = self.pending(**fields)
        assert task_id in {hint.task_id for hint in admit({Lane.IO: 1000, Lane.CPU: 1000})}
        return task_id

    def claimed(self, **fields: Any) -> Claim:
        return self.claim(self.admitted(**fields))

    def claim(self, task_id: UUID, *, worker: str = "worker-1") -> Claim:
        epoch = Task.objects.get(id=task_id).epoch
        claim = engine.run(engine.claim, [claim_request(task_id, epoch, worker=worker)])[0]
        assert claim is not None
        return claim

    def finished(self, finish: Finish | None = None, **fields: Any) -> UUID:
        claim = self.claimed(**fields)
        assert self.write(claim, finish=finish or completed()).accepted
        return claim.task_id

    def write(self, claim: Claim, *records: Any, finish: Finish | None = None) -> Written:
        recorded = Task.objects.get(id=claim.task_id).recorded
        item = Write(
            task_id=claim.task_id, attempt_id=claim.attempt_id, recorded=recorded, records=records, finish=finish
        )
        return engine.run(engine.write, [storing.lightened(item)])[0]

    def deliver(self, task_id: UUID, text: str = "further", **fields: Any) -> Delivered:
        return engine.run(engine.deliver, [follow_up(Task.objects.get(id=task_id), text, **fields)])[0]

    def in_state(self, status: TaskStatus) -> UUID:
        """A task in this state."""
        if status == TaskStatus.PENDING:
            return self.pending()
        if status == TaskStatus.RUNNING:
            return self.claimed().task_id
        if status == TaskStatus.CANCELLED:
            task_id = self.pending()
            assert engine.run(engine.request_cancel, [task_id], by="a test")
            return task_id
        if status in INTERRUPTED:
            return self.finished(asks(status))
        outcome = {
            TaskStatus.COMPLETED: Outcome.COMPLETED,
            TaskStatus.REJECTED: Outcome.REJECTED,
        }.get(status, Outcome.FAILED)
        return self.finished(Finish(status=status, outcome=outcome))

    def lose_lease(self, claim: Claim) -> None:
        """As if its worker had been silent for longer than the lease."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE tasks_app_taskattempt SET lease_expires_at = now() - interval '1 second' WHERE id = %s",
                [claim.attempt_id],
            )


def admit(room: dict[Lane, int], rules: Rules | None = None, *, served: dict[int, float] | None = None) -> list[Hint]:
    """What the dispatcher's plan admits under these rules, most urgent first."""
    rules = rules or Rules()
    admission = engine.run(
        engine.admit,
        lambda scene: Plan(room, rules, scene, served=served or {}),
        rates=rules.rates,
        probing=sorted(rules.probing),
    )
    return admission.hints


def lost(attempt_id: UUID, outcome: Outcome = Outcome.PROCESS_LOST, **fields: Any) -> Lost:
    return Lost(attempt_id=attempt_id, outcome=outcome, **{"code": outcome.value, "message": "a test", **fields})


def generations(task_id: UUID) -> list[int]:
    return list(Task.objects.get(id=task_id).events.order_by("generation").values_list("generation", flat=True))
