"""Submits studies as tasks of one batch through the A2A door, and follows them over REST. Knows nothing but HTTP."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from examples.imaging.inputs import Study

PRIORITIES = ("critical", "high", "normal", "low")
#: Of a hundred tasks, how many have each priority. The urgent ones are sent last: they have something to overtake.
SHARES = {"low": 50, "normal": 30, "high": 13, "critical": 7}
ENDED = {"completed", "failed", "cancelled", "rejected"}
SUBMITTERS = 4
#: Everything is released together, this long after the submission began for each task, so that all stand in line first.
RELEASE_S_PER_TASK = 0.01
#: The extension of A2A that carries a task's priority and earliest start.
TASK_OPTIONS = "urn:a2a-task-manager:task-options:v1"


class NotAccepted(Exception):
    """The server refused a task."""


@dataclass(slots=True)
class Sent:
    """One task of the batch: what was sent, and the task as the server last showed it."""

    study: Study
    priority: str
    id: str = ""
    task: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return str(self.task.get("status", "pending"))


def planned(studies: Sequence[Study], count: int) -> list[Sent]:
    """``count`` tasks over the studies in turn, least urgent first."""
    source = itertools.cycle(studies)
    plan: list[Sent] = []
    for priority, share in SHARES.items():
        number = count - len(plan) if priority == "critical" else round(count * share / 100)
        plan += [Sent(next(source), priority) for _ in range(number)]
    return plan


class Batch:
    """Tasks that share an A2A context."""

    def __init__(self, client: httpx.Client, plan: list[Sent]) -> None:
        self._client = client
        self.plan = plan
        self.context_id = f"demo-{uuid4()}"
        self._by_id: dict[str, Sent] = {}

    def submit(self, progress: Callable[[], None] = lambda: None) -> None:
        """Sends every task, a few at a time. Raises :class:`NotAccepted` or httpx.HTTPError."""
        release_at = datetime.now(UTC) + timedelta(seconds=RELEASE_S_PER_TASK * len(self.plan))
        with ThreadPoolExecutor(SUBMITTERS) as pool:
            for sent in pool.map(lambda item: self._submit(item, release_at), self.plan):
                self._by_id[sent.id] = sent
                progress()

    def refresh(self) -> None:
        """Reads how every task stands."""
        for task in self._listed():
            if task["id"] in self._by_id:
                self._by_id[task["id"]].task = task

    def is_done(self) -> bool:
        return all(sent.status in ENDED for sent in self.plan)

    def by_start(self) -> list[Sent]:
        """Those that have started, in the order in which they did."""
        return sorted((sent for sent in self.plan if sent.task.get("started_at")), key=lambda s: s.task["started_at"])

    def detail(self, sent: Sent) -> dict[str, Any]:
        """The task with its artifacts, attempts and messages."""
        reply = self._client.get(f"/api/v1/tasks/{sent.id}/")
        reply.raise_for_status()
        return dict(reply.json())

    def content(self, artifact: dict[str, Any]) -> bytes:
        reply = self._client.get(artifact["content_url"])
        reply.raise_for_status()
        return reply.content

    def _submit(self, sent: Sent, release_at: datetime) -> Sent:
        part = {
            "raw": base64.b64encode(sent.study.path.read_bytes()).decode(),
            "mediaType": sent.study.media_type,
        }
        message = {
            "messageId": str(uuid4()),
            "role": "ROLE_USER",
            "contextId": self.context_id,
            "parts": [part],
            "metadata": {TASK_OPTIONS: {"priority": sent.priority, "run_after": release_at.isoformat()}},
        }
        params = {"message": message, "configuration": {"returnImmediately": True, "historyLength": 0}}
        call = {"jsonrpc": "2.0", "id": message["messageId"], "method": "SendMessage", "params": params}
        reply = self._client.post("/a2a/imaging/", json=call, headers={"A2A-Version": "1.0"})
        reply.raise_for_status()
        answer = reply.json()
        if "error" in answer:
            raise NotAccepted(f"{sent.study.name}: {answer['error']['message']}")
        sent.id = answer["result"]["task"]["id"]
        return sent

    def _listed(self) -> Iterator[dict[str, Any]]:
        url: str | None = f"/api/v1/tasks/?context_id={self.context_id}&page_size=100"
        while url:
            reply = self._client.get(url)
            reply.raise_for_status()
            page = reply.json()
            yield from page["results"]
            url = page["next"]
