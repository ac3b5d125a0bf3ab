"""Messages that no worker of ours can run, each with what the worker's log says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from celery import current_app

from tasks_app.dispatch.queues import JOB_NAMES, job_id
from tasks_app.status import Lane

JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
JOB = JOB_NAMES[Lane.IO]
OTHER_LANE = "a2a.run_cpu is not run by this queue's workers"


def hint(task_id: Any, epoch: Any, *, name: str = JOB, args: Any = None, **fields: Any) -> dict[str, Any]:
    """What ``Broker.publish`` needs for a hint, as the dispatcher makes it; ``args`` in place of the right ones."""
    made = current_app.amqp.as_task_v2(
        fields.pop("id", job_id(task_id, epoch)),
        name,
        args=(task_id, epoch) if args is None else args,
        ignore_result=True,
        **fields,
    )
    return {"body": made.body, "headers": made.headers, "serializer": "json", **made.properties}


def old_hint(task_id: Any, epoch: int) -> dict[str, Any]:
    """The same in version 1 of Celery's protocol: everything in the body, nothing in the headers."""
    made = current_app.amqp.as_task_v1(job_id(task_id, epoch), JOB, args=(task_id, epoch))
    return {"body": made.body, "headers": made.headers, "serializer": "json", **made.properties}


def refused() -> Iterator[tuple[str, dict[str, Any]]]:
    """(what the log says, message) for each kind of message that the io lane's worker refuses."""
    task_id = str(uuid4())
    yield "cannot be read: DecodeError", {"body": b"\x00\xff garbage \xfe", **JSON}
    yield "cannot be read: DecodeError", {"body": b'{"cut off', **JSON}
    for content_type, body in (("application/x-python-serialize", b"\x80\x04N."), ("application/x-yaml", b"a: 1")):
        yield (
            f"Refusing to deserialize untrusted content of type {_short(content_type)}",
            {
                "body": body,
                "content_type": content_type,
                "content_encoding": "binary",
                "headers": hint(task_id, 0)["headers"],
            },
        )
    for body in (b"17", b'"text"', b"null", b"[1, 2, 3]", b'{"some": "thing"}', b""):
        yield "it is no job of Celery's", {"body": body, **JSON}
    yield "nonsense.job is not run by this queue's workers", hint(task_id, 0, name="nonsense.job")
    yield OTHER_LANE, hint(task_id, 0, name=JOB_NAMES[Lane.CPU])
    yield "arguments are not a task's id and an epoch: []", hint(task_id, 0, args=())
    yield "arguments are not a task's id and an epoch: None", {**hint(task_id, 0), "body": {"no": "arguments"}}
    extra = (task_id, 0, "more")
    yield f"arguments are not a task's id and an epoch: {[*extra]!r}", hint(task_id, 0, args=extra)
    yield "and an epoch: ['a', 0] {'b': 1}", hint(task_id, 0, args=("a", 0), kwargs={"b": 1})
    yield "its task's id is no UUID: 'not-a-uuid'", hint("not-a-uuid", 0)
    yield "its task's id is no UUID: 7", hint(task_id, 0, args=(7, 0))
    for epoch in ("1", True, None, 1.5, -1, 2**31):
        yield f"no number that an epoch can be: {epoch!r}", hint(task_id, epoch)
    other = job_id(uuid4(), 0)
    yield f"its job's id does not name its task: {other!r}", hint(task_id, 0, id=other)
    no_id = hint(task_id, 0)
    del no_id["headers"]["id"]
    yield "its job's id does not name its task: None", no_id
    yield "it has a time or a limit of its own", hint(task_id, 0, expires=60)  # not so soon that the broker drops it
    yield "it has a time or a limit of its own", hint(task_id, 0, countdown=3600)
    yield "it has a time or a limit of its own", hint(task_id, 0, time_limit=1)


def _short(content_type: str) -> str:
    return {"application/x-python-serialize": "pickle", "application/x-yaml": "yaml"}[content_type]


#: What only a program without kombu can put into a queue, each with what the worker's log says of it.
RAW = {
    "no JSON at all": "no JSON at all",
    "\udcff\udcfe": "",
    "17": "17",
    '["a list"]': "a list",
    '{"an": "object"}': '"an"',
    '{"body": "e", "properties": {"body_encoding": "base64", "delivery_tag": "t"}}': '"e"',
    '{"body": "e30=", "properties": 5}': "e30=",
    '{"body": "e30=", "properties": {"delivery_tag": ["t"], "delivery_info": {}}, "headers": {}}': "",
    '{"body": "e30=", "properties": {"delivery_tag": "t", "delivery_info": {}}, "headers": "h"}': "",
    '{"__type__": "uuid", "__value__": "no uuid"}': "",
}
