"""The REST door's streams and downloads: Starlette routes, which hold no thread while they wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
from a2a.types import Message, TaskArtifactUpdateEvent
from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import Response

from artifacts_app.models import CURRENT
from tasks_app import intake, reads
from tasks_app.a2a import http, sse
from tasks_app.a2a.errors import InvalidParamsError, TaskNotFoundError, violations
from tasks_app.authentication import Forbidden, Unauthenticated, check_scopes
from tasks_app.engine.core import Statement, Steps
from tasks_app.media_types import is_media_type
from tasks_app.reads import EventRecord
from tasks_app.status import TERMINAL
from tasks_app.web import web

#: RFC 2483, section 5.
URI_LIST = "text/uri-list"
#: What is sent in place of a type that no header can hold; none such is stored any more.
UNKNOWN = "application/octet-stream"
#: What a browser may show by itself, without running anything of it.
INLINE = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/json", "text/plain")

CONTENT = f"""
SELECT artifact.name, artifact.type, chunk.filename, chunk.kind, chunk.content
FROM artifacts_app_artifact artifact
JOIN tasks_app_task task ON task.id = artifact.task_id AND task.client_id = %(client_id)s
JOIN artifacts_app_artifactchunk chunk ON {CURRENT}
WHERE artifact.id = %(artifact_id)s
ORDER BY chunk.generation, chunk.position
"""  # noqa: S608 (only constants are put in)


async def events(request: Request) -> Response:
    """``GET /api/v1/tasks/<id>/events/``: every event of a task, as server-sent events, from the first or from
    ``Last-Event-ID``; ends with the terminal one. 204 if that was the last."""
    try:
        caller = await http.caller(request)
        check_scopes(caller, write=False)
        task_id = intake.task_id(request.path_params["task_id"])
        record = await web().read(reads.task, task_id, client_id=caller.client_id, history=0, artifacts=False)
    except (Unauthenticated, Forbidden) as error:
        return http.denied(error)
    except TaskNotFoundError:
        record = None
    if record is None:
        return http.refused(404, f"no task '{request.path_params['task_id']}'")
    try:
        last = http.last_event_id(request) or 0
    except InvalidParamsError as error:
        return http.refused(400, error.message, *violations(error))
    if record.status in TERMINAL and last >= record.generation:
        # What a browser takes as: there is nothing more, do not ask again.
        return Response(status_code=204)
    return sse.Stream(_follow(task_id, min(last, record.generation)))


async def content(request: Request) -> Response:
    """``GET /api/v1/artifacts/<id>/content``: the bytes of an artifact; of what stands elsewhere, where."""
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
    if any(row[3] == "url" for row in rows):
        media_type = URI_LIST
    elif not is_media_type(media_type):
        media_type = UNKNOWN
    kind = "inline" if media_type in INLINE else "attachment"
    headers = {
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(filename or name or 'artifact')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return Response(b"".join(bytes(row[4]) for row in rows), media_type=media_type, headers=headers)


async def _follow(task_id: UUID, after: int) -> AsyncIterator[bytes | None]:
    async for event in web().follow(task_id, after=after):
        if event is None:
            yield None
        else:
            yield sse.event(event.generation, orjson.dumps(_as_dict(event)), name=event.kind)


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
        update = TaskArtifactUpdateEvent.FromString(event.payload or b"")
        data |= {"artifact_id": update.artifact.artifact_id, "append": update.append, "last_chunk": update.last_chunk}
        data["artifact"] = [
            {"media_type": part.media_type, "filename": part.filename, "size_bytes": len(part.content)}
            for part in event.parts
        ]
    elif event.kind == "checkpoint":
        data["checkpoint"] = (event.payload or b"").decode()
    elif event.payload:
        data["message"] = MessageToDict(Message.FromString(event.payload))
    return data


def _content(artifact_id: UUID, *, client_id: int) -> Steps[list[tuple[Any, ...]]]:
    return (yield Statement(CONTENT, {"artifact_id": artifact_id, "client_id": client_id}))
