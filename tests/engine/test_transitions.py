"""The table of states against every verb, and the database against the table (DESIGN sections 2 and 9.2)."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from tasks_app import engine
from tasks_app.engine import Finish
from tasks_app.models import Outcome, Task
from tasks_app.policies import BreakerPolicy
from tasks_app.status import INTERRUPTED, TERMINAL, TRANSITIONS, Lane, Priority, TaskStatus
from tests.factory import Factory, admit, asks, claim_request, completed, follow_up, lost

pytestmark = pytest.mark.django_db
S = TaskStatus

#: What each verb makes of a task in each state; a pair that is not here leaves the task as it is.
EXPECTED = {
    ("claim", S.PENDING): S.RUNNING,
    ("complete", S.RUNNING): S.COMPLETED,
    ("fail", S.RUNNING): S.FAILED,
    ("reject", S.RUNNING): S.REJECTED,
    ("retry", S.RUNNING): S.PENDING,
    ("ask", S.RUNNING): S.INPUT_REQUIRED,
    ("ask for leave", S.RUNNING): S.AUTH_REQUIRED,
    ("snooze", S.RUNNING): S.PENDING,
    ("lose", S.RUNNING): S.PENDING,
    ("lose for good", S.RUNNING): S.FAILED,
    ("hand back", S.RUNNING): S.PENDING,
    ("rescue", S.RUNNING): S.PENDING,
    ("expire", S.RUNNING): S.FAILED,
    ("expire", S.PENDING): S.FAILED,
    ("expire", S.INPUT_REQUIRED): S.FAILED,
    ("expire", S.AUTH_REQUIRED): S.FAILED,
    ("cancel", S.PENDING): S.CANCELLED,
    ("cancel", S.RUNNING): S.CANCELLED,
    ("cancel", S.INPUT_REQUIRED): S.CANCELLED,
    ("cancel", S.AUTH_REQUIRED): S.CANCELLED,
    ("answer", S.INPUT_REQUIRED): S.PENDING,
    ("answer", S.AUTH_REQUIRED): S.PENDING,
    # A message waits for its turn: what ends well goes on, what does not has ended.
    ("unread: complete", S.RUNNING): S.PENDING,
    ("unread: ask", S.RUNNING): S.PENDING,
    ("unread: ask for leave", S.RUNNING): S.PENDING,
    ("unread: retry", S.RUNNING): S.PENDING,
    ("unread: fail", S.RUNNING): S.FAILED,
    ("unread: reject", S.RUNNING): S.REJECTED,
}
#: Pairs that leave a message where the state stays: the event is of it.
WAITS = {("answer", S.PENDING), ("answer", S.RUNNING)}
FINISHES = {
    "complete": completed(),
    "fail": Finish(status=S.FAILED, outcome=Outcome.FAILED),
    "reject": Finish(status=S.REJECTED, outcome=Outcome.REJECTED),
    "retry": Finish(status=S.PENDING, outcome=Outcome.RETRIED),
    "snooze": Finish(status=S.PENDING, outcome=Outcome.SNOOZED, spend=False),
    "ask": asks(),
    "ask for leave": asks(S.AUTH_REQUIRED),
}
UNREAD = [f"unread: {verb}" for verb in ("complete", "ask", "ask for leave", "retry", "fail", "reject")]
LOSSES = {
    "lose": lost(uuid4()),
    "lose for good": lost(uuid4(), Outcome.CPU_LIMIT, final=True),
    "hand back": lost(uuid4(), Outcome.HANDED_BACK, spend=False, released=False),
}
VERBS = [
    *("claim", "answer", *FINISHES, *UNREAD, *LOSSES, "rescue", "expire", "cancel", "reschedule", "unadmit", "rerun"),
    *("judge", "prune"),
]
PAST = timedelta(hours=1)


def apply(verb: str, task: Task, factory: Factory) -> None:
    if verb == "claim":
        admit({Lane.IO: 100})
        engine.run(engine.claim, [claim_request(task.id, task.epoch)])
    elif verb in LOSSES:
        ids = task.attempts.values_list("id", flat=True)
        engine.run(engine.lose, [replace(LOSSES[verb], attempt_id=attempt_id) for attempt_id in ids])
    elif verb == "rescue":
        task.attempts.update(lease_expires_at=timezone.now() - PAST)
        engine.run(engine.rescue)
    elif verb == "expire":
        Task.objects.filter(id=task.id).update(
            timeout_at=timezone.now() - PAST,
            start_deadline_at=timezone.now() - PAST,
            input_expires_at=timezone.now() - PAST if task.status in INTERRUPTED else None,
        )
        engine.run(engine.expire)
    elif verb == "reschedule":
        engine.run(engine.reschedule, [task.id], priority=Priority.LOW, run_after=timezone.now() + PAST)
    elif verb == "unadmit":
        engine.run(engine.unadmit, agents=["echo"])
    elif verb == "rerun":
        engine.run(engine.rerun, [task.id], lanes={"echo": Lane.IO})
    elif verb == "judge":
        engine.run(engine.judge, {"echo": BreakerPolicy(failures=1)})
    elif verb == "prune":
        engine.run(engine.prune, dict.fromkeys(TERMINAL, 86_400.0))
    elif verb == "answer":
        engine.run(engine.deliver, [follow_up(task)])
    elif verb == "cancel":
        engine.run(engine.request_cancel, [task.id], by="a test")
    else:
        attempt = task.attempts.order_by("-number").first()
        if attempt is not None:
            finish = FINISHES[verb.removeprefix("unread: ")]
            item = engine.Write(task_id=task.id, attempt_id=attempt.id, finish=finish)
            engine.run(engine.write, [item])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", list(S))
def test_every_verb_in_every_state_does_what_the_table_says(status: S, verb: str, factory: Factory) -> None:
    task = Task.objects.get(id=factory.in_state(status))
    if verb in UNREAD and status == S.RUNNING:
        engine.run(engine.deliver, [follow_up(task)])
    Task.objects.filter(id=task.id).update(status_at=task.created_at - PAST)
    task.refresh_from_db()
    apply(verb, task, factory)
    after = Task.objects.get(id=task.id)
    expected = EXPECTED.get((verb, status), status)
    assert after.status == expected
    assert after.status == status or expected in TRANSITIONS[status]
    assert after.generation == task.generation + (after.status != status or (verb, status) in WAITS)
    assert (after.status_at != task.status_at) == (after.status != status)


@pytest.mark.parametrize("after", list(S))
@pytest.mark.parametrize("before", list(S))
def test_the_database_refuses_what_the_table_refuses(before: S, after: S, factory: Factory) -> None:
    task_id = factory.in_state(before)
    now = timezone.now()
    allowed = before == after or after in TRANSITIONS[before]
    set_to = {
        "status": after.value,
        "completed_at": now if after in TERMINAL else None,
        "lease_id": task_id if after == S.RUNNING else None,
        "admitted_at": None,
        "input_expires_at": None,
    }
    sql = f"UPDATE tasks_app_task SET {', '.join(f'{name} = %s' for name in set_to)} WHERE id = %s"  # noqa: S608
    verdict = contextlib.nullcontext() if allowed else pytest.raises(IntegrityError, match="cannot go from")
    with verdict, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, [*set_to.values(), task_id])


@pytest.mark.parametrize("status", [S.COMPLETED, S.INPUT_REQUIRED, S.AUTH_REQUIRED])
def test_the_database_refuses_to_leave_a_message_unread(status: S, factory: Factory) -> None:
    factory.in_state(status)
    with pytest.raises(IntegrityError, match="task_no_message_unread"), transaction.atomic():
        Task.objects.update(inbox_seq=1)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("progress", 1.5),
        ("progress", float("nan")),
        ("status", "dancing"),
        ("lane", "gpu"),
        ("priority", 9),
        ("completed_at", timezone.now()),
        ("generation", 0),
        ("consumed_seq", 1),
        ("consumed_seq", -1),
        ("timeout_s", -1),
    ],
)
def test_the_database_refuses_impossible_rows(column: str, value: Any, factory: Factory) -> None:
    factory.pending()
    with connection.cursor() as cursor, pytest.raises(IntegrityError), transaction.atomic():
        cursor.execute(f"UPDATE tasks_app_task SET {column} = %s", [value])  # noqa: S608
