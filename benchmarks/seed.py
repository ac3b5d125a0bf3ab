"""``python -m benchmarks.seed <agent> <tasks> <priority> <parameters>``: puts tasks in, as a door would."""

from __future__ import annotations

import json
import sys
from uuid import uuid4

import django

django.setup()

from a2a.types import Message, Part, Role

from tasks_app import agents, engine, intake
from tasks_app.a2a.extension import TaskOptions
from tasks_app.authentication import Caller
from tasks_app.engine import NewTask
from tasks_app.models import Client
from tasks_app.status import Priority
from tasks_app.wakeups import accepted, bell

BATCH = 500


def main(agent: str, tasks: str, priority: str, parameters: str) -> None:
    """All are made first, so that the first and the last are accepted at nearly the same time."""
    caller = local()
    options = TaskOptions(priority=Priority.parse(priority), parameters=json.loads(parameters))
    new = [new_task(caller, agent, options) for _ in range(int(tasks))]
    for start in range(0, len(new), BATCH):
        engine.run(engine.create, new[start : start + BATCH])
        bell.ring(accepted(new[start : start + BATCH]))


def local() -> Caller:
    """The client of open mode."""
    client = Client.objects.get_or_create(name="local")[0]
    return Caller(client_id=client.pk, name=client.name)


def new_task(caller: Caller, agent: str, options: TaskOptions) -> NewTask:
    message = Message(message_id=str(uuid4()), role=Role.ROLE_USER, parts=[Part(text="hello")])
    return intake.new_task(
        caller=caller,
        spec=agents.get(agent),
        message=message,
        options=options,
        metadata={},
        method="SendMessage",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
