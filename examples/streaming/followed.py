"""A task as its events tell it: the same whether they come by a stream or by a webhook. Does no HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

ENDED = {"completed", "failed", "canceled", "rejected"}
#: In these a task waits for its client, of whom there is none here.
OVER = ENDED | {"input_required", "auth_required"}


class Gap(Exception):
    """An event is missing."""


@dataclass(slots=True, kw_only=True)
class Followed:
    """One task. ``generation`` is the number of the newest event that it has taken, 0 before any."""

    text: str
    id: str = ""
    generation: int = 0
    state: str = "submitted"
    progress: float = 0.0
    said: str = ""
    artifacts: dict[str, str] = field(default_factory=dict)
    resumed: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: dict[str, Any]) -> None:
        """Takes a StreamResponse, as ProtoJSON. Ignores one that it has seen; raises :class:`Gap` if one is missing."""
        ((kind, content),) = event.items()
        generation = int(content["metadata"]["generation"])
        if generation <= self.generation:
            return
        # A whole task is what all events up to its own have made of it; any other event follows the one before.
        if kind != "task" and generation != self.generation + 1:
            raise Gap(f"task {self.id}: event {generation} came after {self.generation}")
        self.generation = generation
        if kind == "artifactUpdate":
            self._take_artifact(content["artifact"], append=content.get("append", False))
            return
        for artifact in content.get("artifacts", []):
            self._take_artifact(artifact, append=False)
        self._take_status(content)

    def _take_artifact(self, artifact: dict[str, Any], *, append: bool) -> None:
        before = self.artifacts.get(artifact["artifactId"], "") if append else ""
        self.artifacts[artifact["artifactId"]] = before + _text(artifact)

    def _take_status(self, content: dict[str, Any]) -> None:
        status = content["status"]
        self.state = status["state"].removeprefix("TASK_STATE_").lower()
        self.progress = content["metadata"].get("progress", self.progress)
        self.said = _text(status.get("message", {})) or self.said
        if self.state in OVER:
            self.over.set()


def _text(content: dict[str, Any]) -> str:
    """That of a message's or an artifact's parts."""
    return "".join(part.get("text", "") for part in content.get("parts", []))
