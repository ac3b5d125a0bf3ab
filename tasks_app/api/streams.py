"""The REST door's streams: Starlette routes, which hold no thread while they wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
from a2a.types import Message, TaskArtifactUpdateEvent
from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import Response

from tasks_app import intake, reads
from tasks_app.a2a import http, sse
from tasks_app.a2a.errors import InvalidParamsError, TaskNotFoundError, violations
from tasks_app.authentication import Forbidden, Unauthenticated, check_scopes
from tasks_app.reads import EventRecord
from tasks_app.status import TERMINAL
from tasks_app.web import web


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
            {
                "media_type": part.media_type,
                "filename": part.filename,
                "size_bytes": part.size_bytes,
            }
            for part in event.parts
        ]
    elif event.kind == "checkpoint":
        data["checkpoint"] = (event.payload or b"").decode()
    elif event.payload:
        data["message"] = MessageToDict(Message.FromString(event.payload))
    return data
