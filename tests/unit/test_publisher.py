"""What the dispatcher publishes."""

from __future__ import annotations

from uuid import uuid4

import pytest

from a2a_project.celery import app
from tasks_app.dispatch.publisher import Publisher
from tasks_app.dispatch.queues import JOB_NAMES, job_id
from tasks_app.engine import Hint
from tasks_app.status import Lane, Priority


@pytest.mark.parametrize("lane", Lane)
def test_each_hint_is_the_message_that_celery_would_make(lane: Lane) -> None:
    publisher = Publisher(app)
    for epoch in range(2):  # also those after the first
        hint = Hint(uuid4(), epoch, lane, Priority.NORMAL, "noop")
        celerys = app.amqp.as_task_v2(
            job_id(hint.task_id, epoch), JOB_NAMES[lane], args=(str(hint.task_id), epoch), ignore_result=True
        )
        assert publisher.message(hint) == celerys
