"""Names of the queues and of the jobs in them: one queue per lane and priority.

A queue has one name everywhere in this code and on command lines; at the broker ``A2A_QUEUE_PREFIX`` stands before it.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from tasks_app.prefix import prefixed
from tasks_app.status import Lane, Priority

#: The job each lane's workers run.
JOB_NAMES = {Lane.CPU: "a2a.run_cpu", Lane.IO: "a2a.run_io"}
SYSTEM_QUEUE = "a2a.system"
#: Where RabbitMQ puts what no worker can read.
DEAD_QUEUE = "a2a.dead"


def queue_name(lane: Lane | str, priority: Priority | int) -> str:
    """``a2a.<lane>.<critical|high|normal|low>``."""
    return f"a2a.{Lane(lane).value}.{Priority(priority).label}"


def parse_queue_name(text: str) -> tuple[Lane, Priority] | None:
    """The lane and priority of a queue's name; None if it is no queue of tasks."""
    for lane in Lane:
        for priority in Priority:
            if text == queue_name(lane, priority):
                return lane, priority
    return None


def queue_names(lane: Lane) -> list[str]:
    """The queues of a lane, most urgent first."""
    return [queue_name(lane, priority) for priority in Priority]


def lanes_of(queues: Collection[str]) -> list[Lane]:
    """The lanes whose queues are among these, which are named as at the broker."""
    return [lane for lane in Lane if any(prefixed(name) in queues for name in queue_names(lane))]


def job_id(task_id: UUID, epoch: int) -> str:
    """The Celery id of the job that carries a task: names the task, so that Flower and revokes can find it."""
    return f"{task_id}:{epoch}"


def parse_job_id(text: str) -> tuple[UUID, int] | None:
    """The task and epoch that a job's id names; None if it is no job of ours."""
    head, separator, tail = text.partition(":")
    try:
        return (UUID(head), int(tail)) if separator else None
    except ValueError:
        return None
