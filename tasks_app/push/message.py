"""A notification: the body and the headers of one POST (A2A 1.0, section 4.3.3; Standard Webhooks 1.0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from a2a.types import Message
from standardwebhooks import Webhook

from tasks_app.a2a import wire
from tasks_app.push.sealing import unseal
from tasks_app.push.values import Claimed
from tasks_app.reads import EventRecord

CONTENT_TYPE = "application/a2a+json"
#: Of a batch's, which A2A knows nothing of (Standard Webhooks, «Payload structure»).
BATCH_CONTENT_TYPE = "application/json"
BATCH_COMPLETED = "batch.completed"
USER_AGENT = "a2a-task-manager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """A claimed config's secrets, open."""

    token: str
    authorization: str
    signing: tuple[bytes, ...]


def secrets(held: Claimed) -> Secrets:
    """What goes with this config's notifications. Raises :class:`tasks_app.push.sealing.Unopenable`."""
    said = unseal(held.credentials).decode() if held.credentials else ""
    return Secrets(
        token=unseal(held.token).decode() if held.token else "",
        # A scheme alone says nothing that a receiver could check.
        authorization=f"{held.scheme} {said}" if held.scheme and said else "",
        signing=tuple(unseal(secret) for secret in held.secrets),
    )


def first(event: EventRecord, held: Claimed, metadata: dict[str, Any], message: bytes) -> bytes:
    """The body for a task's first event: the Task as it was accepted, as a stream begins with it."""
    task = wire.Submitted(
        task_id=event.task_id,
        context_id=held.context_id,
        at=event.created_at,
        metadata=metadata,
        message=Message.FromString(message),
    )
    return _dumped(task.as_dict())


def body(event: EventRecord, held: Claimed) -> bytes:
    """The body for any other event: ProtoJSON of the StreamResponse that streams send too."""
    return _dumped(wire.as_dict(wire.event(event, context_id=held.context_id)))


def completed(batch: dict[str, Any]) -> bytes:
    """The body that says that a batch is complete."""
    return _dumped({"type": BATCH_COMPLETED, "timestamp": batch["completed_at"], "data": batch})


def _dumped(data: dict[str, Any]) -> bytes:
    """Sorted, since protobuf's maps have no order: a repeat, from whichever process, is the same to the byte."""
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def headers(
    held: Claimed, generation: int, content: bytes, *, secrets: Secrets, now: datetime
) -> Sequence[tuple[str, str]]:
    """All but Host and Content-Length. ``webhook-id`` is the same whenever this event is sent to this config."""
    webhook_id = f"msg_{held.id.hex}_{generation}"
    made = [
        ("Content-Type", BATCH_CONTENT_TYPE if held.batch_id else CONTENT_TYPE),
        ("User-Agent", USER_AGENT),
        ("webhook-id", webhook_id),
        ("webhook-timestamp", str(int(now.timestamp()))),
    ]
    if secrets.signing:
        text = content.decode()
        signatures = [Webhook(secret).sign(webhook_id, now, text) for secret in secrets.signing]
        made.append(("webhook-signature", " ".join(signatures)))
    if secrets.authorization:
        made.append(("Authorization", secrets.authorization))
    if secrets.token:
        made.append(("X-A2A-Notification-Token", secrets.token))
    return made
