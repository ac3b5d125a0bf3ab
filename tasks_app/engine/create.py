"""create: accepts tasks. One statement writes each task's request, row and first event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import uuid_utils.compat

from tasks_app.engine import arrays, files
from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.policies import UNSIZED, Resources
from tasks_app.push.values import NewPush
from tasks_app.status import Lane, Priority

#: Made once: json.dumps makes one for every call that does not take the defaults.
_CANONICAL = json.JSONEncoder(sort_keys=True, default=str, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task to accept; already validated. ``message`` is the A2A Message as protobuf bytes.

    ``run_after`` None means at once; ``start_deadline_s`` counts from then. ``asked`` is what the request said of that
    for which its agent has a default: a repeat stays one when the agent's declaration changes. ``needs`` is what it
    asked for and what its agent declares. ``accepted_output_modes`` are the media types that its client takes as an
    answer; empty if it did not say. ``max_queued`` is how many of its client's tasks may wait. ``push`` is where its
    events are sent, from the first on.
    ``batch_index`` is its place in the batch. ``depends_on`` are tasks of its client that must have completed before it
    runs; they may be of the same list. The id is made here, so that a repeat after a lost connection is the same task.
    """

    client_id: int
    agent: str
    lane: Lane
    context_id: str
    message_id: str
    message: bytes
    method: str
    priority: Priority = Priority.NORMAL
    parameters: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    needs: Resources = UNSIZED
    accepted_output_modes: tuple[str, ...] = ()
    max_queued: int | None = None
    start_deadline_s: float | None = None
    timeout_s: float
    max_attempts: int
    run_after: datetime | None = None
    batch_id: UUID | None = None
    batch_index: int | None = None
    depends_on: tuple[UUID, ...] = ()
    rerun_of: UUID | None = None
    #: As it was before its message's files went elsewhere: their addresses need not be those of a repeat.
    said_digest: bytes | None = None
    push: NewPush | None = None
    id: UUID = field(default_factory=uuid_utils.compat.uuid7)

    def digest(self) -> bytes:
        """The SHA-256 of all that was asked; equal for a repeat of the same request."""
        if self.said_digest is not None:
            return self.said_digest
        options: list[Any] = [self.priority, self.parameters, self.metadata, self.asked, self.run_after]
        if self.push is not None:
            options.append(self.push.asked())
        text = _CANONICAL.encode(options)
        return hashlib.sha256(self.message + text.encode()).digest()


class Submitted(Protocol):
    """A task that was to be created, by what is counted and rung for: a NewTask, or the row that it became."""

    @property
    def id(self) -> UUID: ...
    @property
    def agent(self) -> str: ...
    @property
    def lane(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def client_id(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What became of a new task.

    ``task_id`` is the task that now stands for the message; ``repeated`` if it stood before; ``conflict`` if it was
    made from another request under the same message id, so that nothing was accepted; ``refused`` if its client has
    too many tasks waiting, so that nothing was accepted either.
    """

    task_id: UUID
    created_at: datetime
    repeated: bool = False
    conflict: bool = False
    refused: bool = False


_HEAD = """
WITH item AS (
    SELECT * FROM unnest(
        %(id)s::uuid[], %(client_id)s::bigint[], %(agent)s::text[], %(lane)s::text[], %(priority)s::smallint[],
        %(context_id)s::text[], %(message_id)s::text[], %(digest)s::bytea[], %(method)s::text[], %(message)s::bytea[],
        %(parameters)s::jsonb[], %(metadata)s::jsonb[], %(resources)s::jsonb[], %(timeout_s)s::float8[],
        %(max_attempts)s::smallint[], %(run_after)s::timestamptz[], %(batch_id)s::uuid[],
        %(batch_index)s::int[], %(rerun_of)s::uuid[], %(memory_mb)s::int[], %(cores)s::float8[], %(disk_mb)s::int[],
        %(start_deadline_s)s::float8[], %(accepted_output_modes)s::text[], %(deps_left)s::int[]
    ) AS item(id, client_id, agent, lane, priority, context_id, message_id, digest, method, message, parameters,
              metadata, resources, timeout_s, max_attempts, run_after, batch_id, batch_index, rerun_of, memory_mb,
              cores, disk_mb, start_deadline_s, accepted_output_modes, deps_left)
), request AS (
    INSERT INTO tasks_app_taskrequest
        (task_id, client_id, agent, message_id, digest, method, message, parameters, metadata, resources,
         accepted_output_modes)
    SELECT id, client_id, agent, message_id, digest, method, message, parameters, metadata, resources,
           accepted_output_modes::text[]
    FROM item
    ON CONFLICT (client_id, agent, message_id) DO NOTHING
    RETURNING task_id
), task AS (
    INSERT INTO tasks_app_task
        (id, client_id, agent, lane, priority, context_id, batch_id, batch_index, rerun_of_id, status, progress,
         attempt, max_attempts, epoch, generation, run_after, publishes, memory_mb, cores, disk_mb, timeout_s,
         start_deadline_at, deps_left, status_at, created_at, updated_at)
    SELECT item.id, item.client_id, agent, lane, priority, context_id, batch_id, batch_index, rerun_of, 'pending', 0,
           0, max_attempts, 0, 1, GREATEST(run_after, now()), 0, memory_mb, cores, disk_mb, timeout_s,
           GREATEST(run_after, now()) + start_deadline_s * interval '1 second', deps_left, now(), now(), now()
    FROM item JOIN request ON request.task_id = item.id
    RETURNING id, created_at
), event AS (
    INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, attempt, created_at)
    SELECT id, 1, 'status', 'pending', 0, 0, created_at FROM task
)"""
# Only where some item has one: most have none. It starts before the first event, which is sent too.
_PUSH = """, push AS (
    INSERT INTO tasks_app_pushconfig
        (id, task_id, config_id, url, host, token, scheme, credentials, state, delivered, failures, next_at, last_error,
         created_at)
    SELECT p.id, task.id, p.config_id, p.url, p.host, p.token, p.scheme, p.credentials, 'active', 0, 0, now(), '',
           task.created_at
    FROM unnest(%(p_id)s::uuid[], %(p_task)s::uuid[], %(p_config_id)s::text[], %(p_url)s::text[], %(p_host)s::text[],
                %(p_token)s::bytea[], %(p_scheme)s::text[], %(p_credentials)s::bytea[])
         AS p(id, task_id, config_id, url, host, token, scheme, credentials)
    JOIN task ON task.id = p.task_id
)"""
# The same. Whether one has completed is not looked at here: that is for the sweep, which no end can overtake.
_DEPENDENCIES = """, dependency AS (
    INSERT INTO tasks_app_taskdependency (task_id, needs_id)
    SELECT d.task_id, d.needs_id FROM unnest(%(d_task_id)s::uuid[], %(d_needs_id)s::uuid[]) AS d(task_id, needs_id)
    JOIN task ON task.id = d.task_id
)"""
_FILES = files.NAMED.format(where="JOIN task ON task.id = f.task_id")
_RESULT = "\nSELECT id, created_at FROM task"

# A message that was there already, or came twice in this list: who stands for it. A statement of its own, because the
# first one's snapshot does not see a row that another transaction committed meanwhile.
FIND = """
SELECT request.client_id, request.agent, request.message_id, request.task_id, task.created_at, request.digest
FROM unnest(%(client_id)s::bigint[], %(agent)s::text[], %(message_id)s::text[]) AS item(client_id, agent, message_id)
JOIN tasks_app_taskrequest request USING (client_id, agent, message_id)
JOIN tasks_app_task task ON task.id = request.task_id
"""

LOCK = "SELECT id FROM tasks_app_client WHERE id = ANY(%(client_id)s::bigint[]) ORDER BY id FOR NO KEY UPDATE"
# Served by task_client_pending_idx; counts no further than the limit.
WAITING = """
SELECT item.client_id, (
    SELECT count(*) FROM (
        SELECT FROM tasks_app_task WHERE client_id = item.client_id AND status = 'pending' LIMIT item.max_queued
    ) own
), now()
FROM unnest(%(client_id)s::bigint[], %(max_queued)s::int[]) AS item(client_id, max_queued)
"""


def create(items: Sequence[NewTask]) -> Steps[list[Created]]:
    """Accepts the tasks; one :class:`Created` for each, in order.

    Idempotent by (client, agent, message id). Raises a DataError or IntegrityError for the whole list if one item
    cannot be stored; nothing is then accepted.
    """
    pushes = [item for item in items if item.push is not None]
    needs = [(item.id, needed) for item in items for needed in item.depends_on]
    named = [(item.id, files.named(item.message)) for item in items if files.are_in(item.message)]
    sql = _HEAD + (_PUSH if pushes else "") + (_DEPENDENCIES if needs else "") + (_FILES if named else "") + _RESULT
    bound = _bind(items) | _bind_pushes(pushes) | files.bound(named)
    bound |= {"d_task_id": [task_id for task_id, _ in needs], "d_needs_id": [needed for _, needed in needs]}
    rows = yield Statement(sql, bound)
    made = {row[0]: Created(task_id=row[0], created_at=row[1]) for row in rows}
    missing = [item for item in items if item.id not in made]
    if missing:
        made |= yield from _find(missing)
    return [made[item.id] for item in items]


@transactional
def create_within(items: Sequence[NewTask]) -> Steps[list[Created]]:
    """As :func:`create`, but of a client with a ``max_queued`` no more than may wait; the others are refused.

    Locks those clients' rows, so that no other submit of theirs passes between the count and the insert.
    """
    limits = {item.client_id: item.max_queued for item in items if item.max_queued is not None}
    yield Statement(LOCK, {"client_id": list(limits)})
    params = {"client_id": list(limits), "max_queued": list(limits.values())}
    waiting = {row[0]: row[1:] for row in (yield Statement(WAITING, params))}
    room = {client_id: limit - waiting[client_id][0] for client_id, limit in limits.items()}
    made: dict[UUID, Created] = {}
    fitting, over = _split(items, room)
    while fitting:
        for item, created in zip(fitting, (yield from create(fitting)), strict=True):
            made[item.id] = created
            if created.repeated and item.client_id in room:
                room[item.client_id] += 1
        # What turned out to be a repeat has left its place to another.
        fitting, over = _split(over, room)
    known = (yield from _find(over)) if over else {}
    for item in over:
        refused = Created(task_id=item.id, created_at=waiting[item.client_id][1], refused=True)
        made[item.id] = known.get(item.id, refused)
    return [made[item.id] for item in items]


def _split(items: Sequence[NewTask], room: dict[int, int]) -> tuple[list[NewTask], list[NewTask]]:
    """The items for which their client has room, whose places it takes, and the others."""
    fitting: list[NewTask] = []
    over: list[NewTask] = []
    for item in items:
        fits = room.get(item.client_id, 1) > 0
        (fitting if fits else over).append(item)
        if fits and item.client_id in room:
            room[item.client_id] -= 1
    return fitting, over


def _find(items: Sequence[NewTask]) -> Steps[dict[UUID, Created]]:
    """Who stands for the messages of these items, by the item's id; nothing for those that nobody stands for."""
    names = ("client_id", "agent", "message_id")
    rows = yield Statement(FIND, {name: [getattr(item, name) for item in items] for name in names})
    known = {tuple(row[:3]): row[3:] for row in rows}
    found = {}
    for item in items:
        row = known.get((item.client_id, item.agent, item.message_id))
        if row is not None:
            task_id, created_at, digest = row
            conflict = bytes(digest) != item.digest()
            found[item.id] = Created(task_id=task_id, created_at=created_at, repeated=True, conflict=conflict)
    return found


_PLAIN = [
    *("id", "client_id", "agent", "context_id", "message_id", "method", "message", "timeout_s", "max_attempts"),
    *("run_after", "batch_id", "batch_index", "rerun_of", "start_deadline_s"),
]


def _bind(items: Sequence[NewTask]) -> dict[str, Any]:
    bound: dict[str, Any] = {name: [getattr(item, name) for item in items] for name in _PLAIN}
    for name in ("parameters", "metadata"):
        bound[name] = [_json(getattr(item, name)) for item in items]
    bound["resources"] = [_json(item.needs.said()) for item in items]
    for name in ("memory_mb", "cores", "disk_mb"):
        bound[name] = [getattr(item.needs, name) for item in items]
    # An array literal for each: unnest would make one flat list of them.
    bound["accepted_output_modes"] = [arrays.bound(list(item.accepted_output_modes)) for item in items]
    bound["deps_left"] = [len(item.depends_on) for item in items]
    bound["lane"] = [item.lane.value for item in items]
    bound["priority"] = [int(item.priority) for item in items]
    bound["digest"] = [item.digest() for item in items]
    return bound


def _bind_pushes(items: Sequence[NewTask]) -> dict[str, Any]:
    names = ("id", "config_id", "url", "host", "token", "scheme", "credentials")
    bound: dict[str, Any] = {f"p_{name}": [getattr(item.push, name) for item in items] for name in names}
    return bound | {"p_task": [item.id for item in items]}


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data) if data else "{}"  # nearly always
