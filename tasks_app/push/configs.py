"""The verbs of clients over their tasks' webhooks. A task of somebody else, or of another agent, is none."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tasks_app.engine import Delivered, FollowUp, deliver
from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.push.values import NewPush, Page, Push

OURS = "id = %(task_id)s AND client_id = %(client_id)s AND (%(agent)s::text IS NULL OR agent = %(agent)s)"
#: Locked, so that the count below holds, and so that no event comes between the generation and the config.
LOCK = f"""
SELECT generation - (completed_at IS NOT NULL)::int FROM tasks_app_task WHERE {OURS} FOR NO KEY UPDATE
"""  # noqa: S608 (only constants are put in)
# A config that is replaced goes on where it was: nothing is left out, and to the new address the event is sent that the
# old one did not take. What the old one's holder still writes is fenced.
CREATE = """
INSERT INTO tasks_app_pushconfig AS config
    (id, task_id, config_id, url, host, token, scheme, credentials, state, delivered, failures, next_at, last_error,
     created_at)
SELECT %(id)s::uuid, %(task_id)s::uuid, %(config_id)s::text, %(url)s::text, %(host)s::text, %(token)s::bytea,
       %(scheme)s::text, %(credentials)s::bytea, 'active', %(delivered)s::int, 0, now(), '', now()
WHERE (SELECT count(*) FROM tasks_app_pushconfig
       WHERE task_id = %(task_id)s::uuid AND config_id <> %(config_id)s::text) < %(most)s::int
ON CONFLICT (task_id, config_id) DO UPDATE
SET url = EXCLUDED.url, host = EXCLUDED.host, token = EXCLUDED.token, scheme = EXCLUDED.scheme,
    credentials = EXCLUDED.credentials, state = 'active', failures = 0, next_at = now(), last_error = '',
    delivered = LEAST(config.delivered, EXCLUDED.delivered), claimed_by = NULL, dead_at = NULL
RETURNING config_id
"""
CREATE_OF_BATCH = """
INSERT INTO tasks_app_pushconfig
    (id, batch_id, config_id, url, host, token, scheme, credentials, state, delivered, failures, next_at, last_error,
     created_at)
VALUES (%(id)s::uuid, %(batch_id)s::uuid, %(config_id)s::text, %(url)s::text, %(host)s::text, %(token)s::bytea,
        %(scheme)s::text, %(credentials)s::bytea, 'active', 0, 0, now(), '', now())
"""
HAS = f"SELECT 1 FROM tasks_app_task WHERE {OURS}"  # noqa: S608
GET = f"""
SELECT task_id, config_id, url, scheme FROM tasks_app_pushconfig
WHERE task_id = (SELECT id FROM tasks_app_task WHERE {OURS}) AND config_id = %(config_id)s
"""  # noqa: S608
LIST = """
SELECT task_id, config_id, url, scheme FROM tasks_app_pushconfig
WHERE task_id = %(task_id)s AND config_id > %(after)s ORDER BY config_id LIMIT %(limit)s::int
"""
DELETE = "DELETE FROM tasks_app_pushconfig WHERE task_id = %(task_id)s AND config_id = %(config_id)s"


class Full(Exception):
    """The task has as many configs as it may: what :func:`create` returns then, and :func:`deliver_with` raises."""


@transactional
def create(
    task_id: UUID, push: NewPush, *, client_id: int, agent: str | None = None, most: int, since: int | None = None
) -> Steps[Push | Full | None]:
    """The config, made or, where the task has one of this id, replaced; None if the client has no such task.

    It begins with the next event, or with that of the generation ``since``. On a task that has ended none comes, so it
    begins with the last one: who asks for the end a moment too late is told all the same. ``most`` is how many a task
    may have. Locks the task's row.
    """
    ended = yield Statement(LOCK, {"task_id": task_id, "client_id": client_id, "agent": agent})
    if not ended:
        return None
    params: dict[str, Any] = {
        "id": push.id,
        "task_id": task_id,
        "config_id": push.config_id,
        "url": push.url,
        "host": push.host,
        "token": push.token,
        "scheme": push.scheme,
        "credentials": push.credentials,
        "delivered": ended[0][0] if since is None else since - 1,
        "most": most,
    }
    if not (yield Statement(CREATE, params)):
        return Full()
    return Push(task_id=task_id, config_id=push.config_id, url=push.url, scheme=push.scheme)


@transactional
def deliver_with(push: NewPush, item: FollowUp, *, most: int) -> Steps[Delivered]:
    """Delivers the message, and makes a config that begins with its event; or does neither. Raises :class:`Full`.

    A message that comes again has its config already: one that has no id of the client's would be another each time.
    """
    delivered: Delivered = (yield from deliver([item]))[0]
    if not delivered.accepted or (delivered.repeated and not push.named):
        return delivered
    since = None if delivered.repeated else delivered.generation
    made = yield from create(item.task_id, push, client_id=item.client_id, agent=item.agent, most=most, since=since)
    if isinstance(made, Full):
        raise made
    return delivered


def create_of_batch(batch_id: UUID, push: NewPush) -> Steps[None]:
    """The config of a batch that has none: what is sent is that the batch is complete."""
    names = ("id", "config_id", "url", "host", "token", "scheme", "credentials")
    yield Statement(CREATE_OF_BATCH, {"batch_id": batch_id, **{name: getattr(push, name) for name in names}})


def get(task_id: UUID, config_id: str, *, client_id: int, agent: str | None = None) -> Steps[Push | None]:
    """The config; None if there is none of this id, or the client has no such task."""
    params = {"task_id": task_id, "client_id": client_id, "agent": agent, "config_id": config_id}
    rows = yield Statement(GET, params)
    return _push(rows[0]) if rows else None


def listed(
    task_id: UUID, *, client_id: int, agent: str | None = None, after: str = "", limit: int
) -> Steps[Page | None]:
    """The task's configs past an id; None if the client has no such task."""
    if not (yield Statement(HAS, {"task_id": task_id, "client_id": client_id, "agent": agent})):
        return None
    rows = yield Statement(LIST, {"task_id": task_id, "after": after, "limit": limit + 1})
    configs = tuple(_push(row) for row in rows[:limit])
    return Page(configs=configs, next=configs[-1].config_id if len(rows) > limit else "")


def delete(task_id: UUID, config_id: str, *, client_id: int, agent: str | None = None) -> Steps[bool]:
    """Ends the config, which may be gone already. False if the client has no such task.

    A request that is on its way when this returns is the last one.
    """
    if not (yield Statement(HAS, {"task_id": task_id, "client_id": client_id, "agent": agent})):
        return False
    yield Statement(DELETE, {"task_id": task_id, "config_id": config_id})
    return True


def _push(row: tuple[Any, ...]) -> Push:
    return Push(task_id=row[0], config_id=row[1], url=row[2], scheme=row[3])
