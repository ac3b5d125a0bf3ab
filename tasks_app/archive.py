"""Where ended tasks are written before they are deleted: lines of JSON in any of Django's storages, or MongoDB.

A record is a task with its request, events, attempts, and what is known of its artifacts, whose contents are not in it.
A task may be written twice, where a process dies between the writing and the deletion: with the same ``id``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from a2a.types import Message, TaskArtifactUpdateEvent
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage, storages
from google.protobuf.json_format import MessageToDict

from artifacts_app.models import Artifact
from tasks_app.api.serializers import ArtifactSerializer, AttemptSerializer, TaskSerializer
from tasks_app.engine import files
from tasks_app.models import EventKind, Task, TaskAttempt, TaskEvent

#: Stands before the alias of one of the settings' ``STORAGES``.
STORAGE = "storage:"
MONGODB = ("mongodb", "mongodb+srv")
#: Of MongoDB's, where the address names none.
DATABASE, COLLECTION = "a2a", "tasks"

Record = dict[str, Any]


class Sink(Protocol):
    """Where records go. What it has written when it returns is there to stay."""

    def write(self, records: Sequence[Record]) -> None: ...


def sink(to: str) -> Sink:
    """The sink at ``mongodb://…``, in the storage ``storage:<alias>``, or in a folder. Raises ValueError."""
    if urlsplit(to).scheme in MONGODB:
        return MongoDB(to)
    if to.startswith(STORAGE):
        alias = to.removeprefix(STORAGE)
        if alias not in settings.STORAGES:
            raise ValueError(f"there is no storage '{alias}'; there are: {', '.join(settings.STORAGES)}")
        return Lines(storages[alias])
    if not to:
        raise ValueError("it names nothing")
    return Lines(FileSystemStorage(location=to))


class Lines:
    """A file of lines for each list of records, below the day on which the first of them ended."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def write(self, records: Sequence[Record]) -> None:
        content = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
        day = str(records[0]["completed_at"])[:10]
        self._storage.save(f"{day}/{records[0]['id']}.jsonl", ContentFile(content))


class MongoDB:
    """A document for each task, by its id; the same again takes its place. Needs pymongo: requirements-mongodb.txt."""

    def __init__(self, url: str) -> None:
        try:
            import pymongo
        except ImportError:
            raise ValueError("pymongo is not installed: requirements-mongodb.txt") from None
        self._one = pymongo.ReplaceOne
        self._client: Any = pymongo.MongoClient(url)
        self._tasks = self._client.get_default_database(DATABASE)[COLLECTION]

    def write(self, records: Sequence[Record]) -> None:
        replaced = [self._one({"_id": each["id"]}, {"_id": each["id"], **each}, upsert=True) for each in records]
        self._tasks.bulk_write(replaced)


def records(task_ids: Sequence[UUID]) -> list[Record]:
    """What is written of these tasks, in order of their ends. JSON."""
    tasks = Task.objects.filter(id__in=task_ids).select_related("client", "request").order_by("completed_at", "id")
    events = _by_task(TaskEvent.objects.filter(task__in=task_ids).order_by("generation"))
    attempts = _by_task(TaskAttempt.objects.filter(task__in=task_ids).order_by("number"))
    artifacts = _by_task(Artifact.objects.filter(task_id__in=task_ids).order_by("created_at", "id"))
    made = [
        {
            **TaskSerializer(task).data,
            "message": MessageToDict(files.as_said(Message.FromString(bytes(task.request.message)))),
            "events": [_event(event) for event in events.get(task.id, [])],
            "attempts": [dict(AttemptSerializer(attempt).data) for attempt in attempts.get(task.id, [])],
            "artifacts": [_artifact(artifact) for artifact in artifacts.get(task.id, [])],
        }
        for task in tasks
    ]
    # As plain JSON: MongoDB's documents hold no UUIDs unless they are told how.
    found: list[Record] = orjson.loads(orjson.dumps(made))
    return found


def _by_task(rows: Any) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = {}
    for row in rows:
        found.setdefault(row.task_id, []).append(row)
    return found


def _artifact(artifact: Artifact) -> Record:
    known = dict(ArtifactSerializer(artifact).data)
    del known["content_url"]
    return known


def _event(event: TaskEvent) -> Record:
    made: Record = {
        "generation": event.generation,
        "kind": event.kind,
        "status": event.status,
        "progress": event.progress,
        "attempt": event.attempt,
        "error": event.error,
        "created_at": event.created_at,
    }
    payload = bytes(event.payload or b"")
    if event.kind == EventKind.ARTIFACT:
        made["artifact_id"] = TaskArtifactUpdateEvent.FromString(payload).artifact.artifact_id
    elif event.kind == EventKind.CHECKPOINT:
        made["checkpoint"] = payload.decode()
    elif payload:
        made["message"] = MessageToDict(files.as_said(Message.FromString(payload)))
    return made
