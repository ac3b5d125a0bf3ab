"""0.3's objects as JSON → 0.1's (A2A 0.1, section 6), under the client's own id of the task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

#: 0.1 has no others. Who lacks an authorisation is asked for it in 0.1: section 4.5.
_STATES = {"rejected": "failed", "auth-required": "input-required"}
_ENDED = ("completed", "failed", "canceled")


def task(data: Mapping[str, Any], *, alias: str) -> Json:
    """A Task."""
    artifacts = [_artifact(item, index) for index, item in enumerate(data.get("artifacts", []))]
    made = {"id": alias, "sessionId": data["contextId"], "status": _status(data["status"]), "artifacts": artifacts}
    history = [_message(item) for item in data.get("history", [])]
    return {**made, "history": history, **_metadata(data)}


def event(data: Mapping[str, Any], *, alias: str, indexes: dict[str, int]) -> Json:
    """A TaskStatusUpdateEvent or a TaskArtifactUpdateEvent; a task, with which our streams begin, is the former.

    ``indexes`` are the places of artifacts by id, which 0.1 has no other name for; what is new is added.
    """
    if data["kind"] == "artifact-update":
        index = indexes.setdefault(data["artifact"]["artifactId"], len(indexes))
        flags = {name: data[name] for name in ("append", "lastChunk") if name in data}
        return {"id": alias, "artifact": {**_artifact(data["artifact"], index), **flags}, **_metadata(data)}
    for item in data.get("artifacts", []):
        indexes.setdefault(item["artifactId"], len(indexes))
    status = _status(data["status"])
    final = data.get("final", status["state"] in _ENDED)
    return {"id": alias, "status": status, "final": final, **_metadata(data)}


def push_config(data: Mapping[str, Any], *, alias: str) -> Json:
    """A TaskPushNotificationConfig."""
    return {"id": alias, "pushNotificationConfig": data["pushNotificationConfig"]}


def _status(data: Mapping[str, Any]) -> Json:
    made = {**data, "state": _STATES.get(data["state"], data["state"])}
    return {**made, "message": _message(data["message"])} if "message" in data else made


def _message(data: Mapping[str, Any]) -> Json:
    return {"role": data["role"], "parts": [_part(part) for part in data["parts"]], **_metadata(data)}


def _part(data: Mapping[str, Any]) -> Json:
    return {"type": data["kind"], **{name: value for name, value in data.items() if name != "kind"}}


def _artifact(data: Mapping[str, Any], index: int) -> Json:
    said = {name: data[name] for name in ("name", "description") if name in data}
    return {**said, "parts": [_part(part) for part in data["parts"]], "index": index, **_metadata(data)}


def _metadata(data: Mapping[str, Any]) -> Json:
    return {"metadata": data["metadata"]} if "metadata" in data else {}
