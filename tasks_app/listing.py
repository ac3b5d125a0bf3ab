"""ListTasks (A2A 1.0, section 3.1.4): a page of a client's tasks of one agent, what changed its state last first.

Pages are read by keyset, as a merge of one index range per state (task_list_idx), so that a page costs the same among
ten million rows as among a thousand, whatever is filtered. ``totalSize`` is exact up to :data:`COUNTED_MAX` and the
planner's estimate beyond: nobody counts ten million rows for a number on a page.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from a2a.types import ListTasksRequest, TaskState

from tasks_app.a2a.errors import invalid
from tasks_app.a2a.parse import CONTEXT_ID_MAX_CHARS
from tasks_app.engine import files
from tasks_app.engine.claim import decoded
from tasks_app.engine.core import Statement, Steps
from tasks_app.models.event import IS_SAID
from tasks_app.reads import TaskRecord, artifacts_of, record
from tasks_app.status import TaskStatus

PAGE_SIZE = 50
PAGE_SIZE_MAX = 100
COUNTED_MAX = 10_000
#: A page holds artifacts of so many bytes; those of its first task, however large. The rest is on the next one.
ARTIFACTS_MAX_BYTES = 8 * 1024 * 1024
#: Where no cursor is: before every task.
FIRST = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_S = TaskStatus
#: The states that each of the wire's stands for, and whether a pending task must have been started for it.
_STANDS_FOR: dict[int, tuple[tuple[TaskStatus, ...], bool | None]] = {
    TaskState.TASK_STATE_UNSPECIFIED: (tuple(_S), None),
    TaskState.TASK_STATE_SUBMITTED: ((_S.PENDING,), False),
    TaskState.TASK_STATE_WORKING: ((_S.RUNNING, _S.PENDING), True),
    TaskState.TASK_STATE_INPUT_REQUIRED: ((_S.INPUT_REQUIRED,), None),
    TaskState.TASK_STATE_AUTH_REQUIRED: ((_S.AUTH_REQUIRED,), None),
    TaskState.TASK_STATE_COMPLETED: ((_S.COMPLETED,), None),
    TaskState.TASK_STATE_FAILED: ((_S.FAILED,), None),
    TaskState.TASK_STATE_CANCELED: ((_S.CANCELLED,), None),
    TaskState.TASK_STATE_REJECTED: ((_S.REJECTED,), None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which tasks, and how much of each. ``started`` None asks nothing; ``before`` is the last place that was seen."""

    client_id: int
    agent: str
    statuses: tuple[TaskStatus, ...]
    started: bool | None
    context_id: str
    since: datetime
    before: tuple[datetime, UUID]
    page_size: int
    history_length: int
    artifacts: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Tasks in order; ``next_token`` is empty at the end; ``total`` counts all that match."""

    tasks: tuple[TaskRecord, ...]
    next_token: str
    total: int


_MATCHES = """task.client_id = %(client_id)s AND task.agent = %(agent)s AND task.status_at >= %(since)s
      AND (%(started)s::bool IS NULL OR task.status <> 'pending' OR (task.attempt > 0) = %(started)s::bool)"""
# One range of task_list_idx for each state, each as long as the page at most.
_OF_EACH_STATE = f"""
    SELECT task.id, task.status_at FROM unnest(%(status)s::text[]) AS wanted(status), LATERAL (
        SELECT id, status_at FROM tasks_app_task task
        WHERE task.status = wanted.status AND {_MATCHES}
          AND (task.status_at, task.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
        ORDER BY task.status_at DESC, task.id DESC LIMIT %(limit)s
    ) task
"""  # noqa: S608 (only constants are put in)
# A context is one conversation: all of its tasks are looked at (task_context_idx).
_OF_CONTEXT = f"""
    SELECT task.id, task.status_at FROM tasks_app_task task
    WHERE task.context_id = %(context_id)s AND task.status = ANY(%(status)s::text[]) AND {_MATCHES}
      AND (task.status_at, task.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
"""  # noqa: S608
_PAGE = """
WITH page AS ({found} ORDER BY status_at DESC, id DESC LIMIT %(limit)s)
SELECT task.id, task.context_id, task.agent, task.priority, task.status, task.progress, task.attempt, task.generation,
       task.status_message, task.error, task.status_at, request.metadata, request.message
FROM page JOIN tasks_app_task task ON task.id = page.id JOIN tasks_app_taskrequest request ON request.task_id = page.id
ORDER BY page.status_at DESC, page.id DESC
"""
PAGE = _PAGE.format(found=_OF_EACH_STATE)
CONTEXT_PAGE = _PAGE.format(found=_OF_CONTEXT)
COUNT = f"SELECT count(*) FROM ({_OF_EACH_STATE} LIMIT %(limit)s) found"  # noqa: S608
CONTEXT_COUNT = f"SELECT count(*) FROM ({_OF_CONTEXT} LIMIT %(limit)s) found"  # noqa: S608
ESTIMATE = f"""
EXPLAIN (FORMAT JSON) SELECT FROM tasks_app_task task WHERE task.status = ANY(%(status)s::text[]) AND {_MATCHES}
"""
SIZES = """
SELECT task_id, sum(size_bytes)::bigint FROM artifacts_app_artifact WHERE task_id = ANY(%(task_id)s::uuid[]) GROUP BY 1
"""
SAID = f"""
SELECT wanted.task_id, said.payload FROM unnest(%(task_id)s::uuid[]) AS wanted(task_id), LATERAL (
    SELECT generation, payload FROM tasks_app_taskevent event
    WHERE event.task_id = wanted.task_id AND {IS_SAID}
    ORDER BY generation DESC LIMIT %(limit)s
) said
ORDER BY wanted.task_id, said.generation
"""  # noqa: S608


def query(request: ListTasksRequest, *, client_id: int, agent: str, history_length: int) -> Query:
    """What a request asks for, checked. Raises InvalidParamsError naming the field."""
    if len(request.context_id) > CONTEXT_ID_MAX_CHARS or "\x00" in request.context_id:
        raise invalid("contextId", f"must have at most {CONTEXT_ID_MAX_CHARS} characters, none of them NUL")
    statuses, started = _STANDS_FOR[request.status]
    return Query(
        client_id=client_id,
        agent=agent,
        statuses=statuses,
        started=started,
        context_id=request.context_id,
        since=_since(request),
        before=_place(request.page_token),
        page_size=_page_size(request),
        history_length=history_length,
        artifacts=request.include_artifacts,
    )


def tasks(asked: Query) -> Steps[Page]:
    """The page that was asked for, with the number of all tasks that match."""
    params: dict[str, Any] = {
        "client_id": asked.client_id,
        "agent": asked.agent,
        "status": [status.value for status in asked.statuses],
        "started": asked.started,
        "since": asked.since,
        "before_at": asked.before[0],
        "before_id": asked.before[1],
        "limit": asked.page_size + 1,
    }
    if asked.context_id:
        params["context_id"] = asked.context_id
    rows = yield Statement(CONTEXT_PAGE if asked.context_id else PAGE, params)
    shown = rows[: asked.page_size]
    if asked.artifacts and shown:
        shown = shown[: (yield from _fitting([row[0] for row in shown]))]
    more, rows = len(rows) > len(shown), shown
    messages = yield from _messages(rows, asked.history_length)
    artifacts = (yield from artifacts_of([(row[0], row[7]) for row in rows])) if asked.artifacts else {}
    return Page(
        tasks=tuple(record(row, messages.get(row[0], ()), artifacts.get(row[0], ())) for row in rows),
        next_token=_token(rows[-1][10], rows[-1][0]) if more else "",
        total=(yield from _total(asked, params)),
    )


def _fitting(task_ids: list[UUID]) -> Steps[int]:
    """How many of the tasks, from the first on, have artifacts that fit on a page together; one, if there is any."""
    sizes: dict[UUID, int] = dict((yield Statement(SIZES, {"task_id": task_ids})))
    ends = itertools.accumulate(sizes.get(task_id, 0) for task_id in task_ids)
    return max(1, sum(end <= ARTIFACTS_MAX_BYTES for end in ends))


def _messages(rows: Sequence[tuple[Any, ...]], limit: int) -> Steps[dict[UUID, tuple[bytes, ...]]]:
    """The newest messages of each task, oldest first."""
    if not limit or not rows:
        return {}
    found: dict[UUID, list[bytes]] = {row[0]: [bytes(row[12])] for row in rows}
    for task_id, payload in (yield Statement(SAID, {"task_id": list(found), "limit": limit})):
        found[task_id].append(bytes(payload))
    shown = [(task_id, said[-limit:]) for task_id, said in found.items()]
    return dict(zip(found, (yield from files.filled(shown, budget_bytes=ARTIFACTS_MAX_BYTES)), strict=True))


def _total(asked: Query, params: dict[str, Any]) -> Steps[int]:
    params = {**params, "before_at": FIRST[0], "before_id": FIRST[1], "limit": COUNTED_MAX + 1}
    counted = int((yield Statement(CONTEXT_COUNT if asked.context_id else COUNT, params))[0][0])
    if counted <= COUNTED_MAX or asked.context_id:
        return counted
    plan = decoded((yield Statement(ESTIMATE, params))[0][0])
    return max(counted, int(plan[0]["Plan"]["Plan Rows"]))


def _page_size(request: ListTasksRequest) -> int:
    if not request.HasField("page_size"):
        return PAGE_SIZE
    if not 1 <= request.page_size <= PAGE_SIZE_MAX:
        raise invalid("pageSize", f"must be from 1 to {PAGE_SIZE_MAX}")
    return int(request.page_size)


def _since(request: ListTasksRequest) -> datetime:
    if not request.HasField("status_timestamp_after"):
        return LONG_AGO
    try:
        at: datetime = request.status_timestamp_after.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise invalid("statusTimestampAfter", str(error)) from None
    return at


def _token(at: datetime, task_id: UUID) -> str:
    return base64.urlsafe_b64encode(f"{at.astimezone(UTC).isoformat()}~{task_id}".encode()).decode()


def _place(token: str) -> tuple[datetime, UUID]:
    """The place that a page token names. Raises InvalidParamsError if it is none of ours."""
    if not token:
        return FIRST
    try:
        instant, _, task_id = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition("~")
        at = datetime.fromisoformat(instant)
        if at.tzinfo is None:
            raise ValueError(instant)
        # By its offset it may be before the first year, which nothing further on can say.
        return at.astimezone(UTC), UUID(task_id)
    except (ValueError, OverflowError, binascii.Error):
        raise invalid("pageToken", "is none of this list's") from None
