"""A client's reruns: new tasks of those of its own that have ended, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence

from a2a.types import Message
from django.db import transaction

from tasks_app import agents, engine, intake, metrics, throttle
from tasks_app.a2a import extension
from tasks_app.a2a.errors import UnsupportedOperationError
from tasks_app.authentication import Caller, check_scopes
from tasks_app.engine import Created, core
from tasks_app.models import Task
from tasks_app.status import TERMINAL
from tasks_app.wakeups import accepted, bell

#: As many are made in a statement.
CHUNK = 500


def rerun(tasks: Sequence[Task], caller: Caller, *, placed: bool = False) -> list[Created]:
    """A new task for each of these that is still there, which come with their requests; what is needed comes first.

    ``placed``: only for those that still hold a place in a batch.

    Raises UnsupportedOperationError if one has not ended or nothing could run it, Forbidden if the caller may not ask
    for what it asks, ResourceExhaustedError at a limit of the client's.
    """
    lanes = {name: spec.lane for name, spec in agents.registered().items()}
    for task in tasks:
        _check(task, caller)
    throttle.check(caller, len(tasks))
    ids = [task.id for task in tasks]

    def all_of() -> list[Created]:
        made: list[Created] = []
        with transaction.atomic():
            for start in range(0, len(ids), CHUNK):
                chunk = ids[start : start + CHUNK]
                made += engine.run(engine.rerun, chunk, lanes=lanes, max_queued=caller.max_queued, placed=placed)
            for created in made:
                intake.accepted(created, caller)
        return made

    made = core.retried(all_of)
    known = Task.objects.in_bulk([created.task_id for created in made])
    new = [known[created.task_id] for created in made]
    metrics.created(new, made)
    bell.ring(accepted(new))
    return made


def _check(task: Task, caller: Caller) -> None:
    if task.status not in TERMINAL:
        raise UnsupportedOperationError(f"task {task.id} is {task.status}; only what has ended can be run again")
    try:
        spec = agents.get(task.agent)
    except agents.UnknownAgent:
        why = f"there is no agent '{task.agent}' now"
        raise UnsupportedOperationError(f"task {task.id} cannot be run again: {why}") from None
    try:
        check_scopes(caller, spec, extension.skill_of(Message.FromString(bytes(task.request.message))), write=True)
    except agents.UnknownSkill as error:
        raise UnsupportedOperationError(f"task {task.id} cannot be run again: {error}") from error
