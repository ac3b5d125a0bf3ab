"""Names of the queues and of the jobs in them: one queue per lane and priority."""

from __future__ import annotations

from uuid import UUID

from tasks_app.status import Lane, Priority

#: The job each lane's workers run.
JOB_NAMES = {Lane.CPU: "a2a.run_cpu", Lane.IO: "a2a.run_io"}


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


def lane_of(queues: list[str]) -> Lane | None:
    """The lane whose queues these are; None for the system's own."""
    for lane in Lane:
        if any(name in queues for name in queue_names(lane)):
            return lane
    return None


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
