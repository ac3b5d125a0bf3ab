"""The REST door's streams and downloads: Starlette routes, which hold no thread while they wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
from a2a.types import Message
from google.protobuf.json_format import MessageToDict
from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from tasks_app import operations, reads
from tasks_app.a2a import http
from tasks_app.a2a.errors import TaskNotFoundError
from tasks_app.authentication import Forbidden, Unauthenticated, check_scopes
from tasks_app.engine.core import Statement, Steps
from tasks_app.reads import EventRecord
from tasks_app.status import TERMINAL
from tasks_app.web import web

KEEP_ALIVE_S = 15
GENERATION_MAX = 2**31 - 1
#: What a browser may show by itself, without running anything of it.
INLINE = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/json", "text/plain")

CONTENT = """
SELECT artifact.name, artifact.type, chunk.filename, chunk.content
FROM artifacts_app_artifact artifact
JOIN tasks_app_task task ON task.id = artifact.task_id AND task.client_id = %(client_id)s
JOIN artifacts_app_artifactchunk chunk
  ON chunk.task_id = artifact.task_id AND chunk.generation = artifact.generation
WHERE artifact.id = %(artifact_id)s
ORDER BY chunk.position
"""


async def events(request: Request) -> Response:
    """``GET /api/v1/tasks/<id>/events/``: every event of a task, as server-sent events, from the first or from
    ``Last-Event-ID``; ends with the terminal one. 204 if that was the last."""
    try:
        caller = await http.caller(request)
        check_scopes(caller, write=False)
        task_id = operations.task_id(request.path_params["task_id"])
        record = await web().read(reads.task, task_id, client_id=caller.client_id, history=False, artifacts=False)
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except TaskNotFoundError:
        record = None
    if record is None:
        return http.refused(404, f"no task '{request.path_params['task_id']}'")
    last = http.whole_number(request.headers.get("last-event-id", "0"))
    if last is None or last > GENERATION_MAX:
        wrong = {"field": "Last-Event-ID", "message": "must be a generation, a number from 0"}
        return http.refused(400, f"{wrong['field']}: {wrong['message']}", wrong)
    if record.status in TERMINAL and last >= record.generation:
        # What a browser takes as: there is nothing more, do not ask again.
        return Response(status_code=204)
    return EventSourceResponse(_follow(task_id, min(last, record.generation)), ping=KEEP_ALIVE_S, sep="\n")


async def content(request: Request) -> Response:
    """``GET /api/v1/artifacts/<id>/content``: the bytes of an artifact."""
    try:
        caller = await http.caller(request)
        check_scopes(caller, write=False)
        artifact_id = UUID(request.path_params["artifact_id"])
        rows = await web().read(_content, artifact_id, client_id=caller.client_id)
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except ValueError:
        rows = []
    if not rows:
        return http.refused(404, "no such artifact")
    name, media_type, filename = rows[0][:3]
    kind = "inline" if media_type in INLINE else "attachment"
    headers = {
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(filename or name or 'artifact')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return Response(b"".join(bytes(row[3]) for row in rows), media_type=media_type, headers=headers)


async def _follow(task_id: UUID, after: int) -> AsyncIterator[dict[str, str]]:
    async for event in web().follow(task_id, after=after):
        yield {
            "id": str(event.generation),
            "event": event.kind,
            "data": orjson.dumps(_as_dict(event)).decode(),
        }


def _as_dict(event: EventRecord) -> dict[str, Any]:
    data: dict[str, Any] = {
        "task_id": str(event.task_id),
        "generation": event.generation,
        "kind": event.kind,
        "status": event.status.value,
        "progress": event.progress,
        "attempt": event.attempt,
        "error": event.error,
        "created_at": event.created_at,
    }
    if event.kind == "artifact":
        data["artifact"] = [
            {"media_type": part.media_type, "filename": part.filename, "size_bytes": len(part.content)}
            for part in event.parts
        ]
    elif event.payload:
        data["message"] = MessageToDict(Message.FromString(event.payload))
    return data


def _content(artifact_id: UUID, *, client_id: int) -> Steps[list[tuple[Any, ...]]]:
    return (yield Statement(CONTENT, {"artifact_id": artifact_id, "client_id": client_id}))
