"""A load of mixed tasks, sent through both doors by clients that never give up."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from examples.imaging.inputs import studies
from tests.faults.evidence import Submitted
from tests.faults.gather import gather
from tests.faults.judge import TERMINAL, violations
from tests.live import Live, wait_for

TASK_OPTIONS = "urn:a2a-task-manager:task-options:v1"
PRIORITIES = ("critical", "high", "normal", "low")
DOORS = ("rest", "a2a")
CLIENTS = 4
#: How long a client repeats a request that gets no answer.
PATIENCE_S = 90.0
INTERNAL_ERROR = -32603
#: While a load flows, so many of its tasks are open at once, and so often its clients look at them, in seconds.
OPEN_MAX = 60
LOOK_S = 0.2


@dataclass(slots=True)
class Item:
    """One task to send, and what its client knows of it."""

    agent: str
    door: str = "rest"
    priority: str = "normal"
    parameters: dict[str, Any] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=lambda: [{"text": "hello"}])
    #: Not before so many seconds after it is sent.
    delay_s: float = 0.0
    #: The status at which its client cancels it; empty: never.
    cancel_at: str = ""
    message_id: str = field(default_factory=lambda: str(uuid4()))
    task_id: str = ""
    cancel_sent: bool = False
    cancel_taken: bool = False
    seen: str = ""

    def submitted(self) -> Submitted:
        return Submitted(
            task=self.task_id,
            message=self.message_id,
            end="failed" if self.parameters.get("at_first") == "fails" else "completed",
            ledgered=self.agent.startswith("ledger-"),
            cancel_sent=self.cancel_sent,
            cancel_taken=self.cancel_taken,
            seen=self.seen,
        )


def timed(agent: str, *, seconds: float, steps: int = 4, at_first: str = "", **more: Any) -> Item:
    """A task of one of the agents that keep the ledger; ``at_first`` it fails for good, is retried or snoozes."""
    return Item(agent, parameters={"seconds": seconds, "steps": steps, "at_first": at_first}, **more)


def mixed(rng: random.Random, *, longest_s: float = 8.0) -> Iterator[Item]:
    """Without end: most are short, of both lanes and all priorities; some fail, wait, are long or cancelled."""
    agents = {"ledger-io": 5, "ledger-cpu": 2, "ledger-limited": 1}
    first = {"": 16, "fails": 2, "retries": 1, "snoozes": 1}
    while True:
        yield timed(
            rng.choices(tuple(agents), tuple(agents.values()))[0],
            seconds=rng.uniform(3 / 8, 1) * longest_s if rng.random() < 0.06 else rng.uniform(0.02, 0.6),
            steps=rng.randint(1, 5),
            at_first=rng.choices(tuple(first), tuple(first.values()))[0],
            door=rng.choice(DOORS),
            priority=rng.choice(PRIORITIES),
            delay_s=rng.uniform(1 / 16, 1 / 2) * longest_s if rng.random() < 0.15 else 0.0,
            cancel_at=rng.choices(("", "pending", "running"), (17, 1, 2))[0],
        )


def images(rng: random.Random, count: int) -> list[Item]:
    """Real images, by mixed priorities; their agent keeps no ledger."""
    sources = [study for study in studies() if study.decodes]
    items = []
    for study in rng.choices(sources, k=count):
        part = {"raw": base64.b64encode(study.path.read_bytes()).decode(), "mediaType": study.media_type}
        items.append(Item("imaging", rng.choice(DOORS), rng.choice(PRIORITIES), parts=[part]))
    return items


def late(agent: str, *, seconds: float, again_s: float = 0.0) -> Item:
    """A task whose first run is silent for ``seconds``, and every other for ``again_s``."""
    return Item(agent, parameters={"seconds": seconds, "again_s": again_s})


class Load:
    """Tasks of one A2A context, their clients' and their operator's view. Safe to send from many threads."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.context_id = f"load-{uuid4()}"
        self.items: list[Item] = []
        self._statuses: dict[str, str] = {}
        self._threads = threading.local()

    # As clients ------------------------------------------------------------------------------------------------------

    def send(self, items: Sequence[Item]) -> None:
        """Returns when all are accepted."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self.submit, items))

    def submit(self, item: Item) -> Item:
        """Repeats the very same request, with its message's id, until there is an answer."""
        run_after = (datetime.now(UTC) + timedelta(seconds=item.delay_s)).isoformat() if item.delay_s else None
        send = self._submit_a2a if item.door == "a2a" else self._submit_rest
        item.task_id = _until_answered(lambda: send(item, run_after))
        self.items.append(item)
        return item

    def cancel(self, item: Item) -> None:
        """Through the item's own door. A task that has ended is none to cancel: no error."""
        item.cancel_sent = True
        send = self._cancel_a2a if item.door == "a2a" else self._cancel_rest
        item.cancel_taken = _until_answered(lambda: send(item)) == "cancelled"

    def cancel_due(self) -> None:
        """Cancels those whose clients want it now."""
        for item in list(self.items):
            if item.cancel_at and not item.cancel_sent and self._statuses.get(item.task_id) == item.cancel_at:
                self.cancel(item)

    @contextmanager
    def flowing(self, source: Iterator[Item]) -> Iterator[None]:
        """While the body runs, clients send from the source and cancel. Then raises what a client could not bear."""
        over, lock = threading.Event(), threading.Lock()

        def send() -> None:
            while not over.wait(LOOK_S / 4):
                if self._open() < OPEN_MAX:
                    with lock:
                        item = next(source)
                    self.submit(item)

        def repeat(action: Callable[[], Any]) -> None:
            while not over.wait(LOOK_S):
                action()

        with ThreadPoolExecutor(CLIENTS + 2) as pool:
            clients = [pool.submit(send) for _ in range(CLIENTS)]
            clients += [pool.submit(repeat, action) for action in (self.look, self.cancel_due)]
            try:
                yield
            finally:
                over.set()
        for client in clients:
            client.result()

    def _open(self) -> int:
        return len(self.items) - sum(status in TERMINAL for status in list(self._statuses.values()))

    def _submit_rest(self, item: Item, run_after: str | None) -> str:
        body = {"agent": item.agent, "message": self._message(item), **_options(item, run_after)}
        reply = self._client().post("/api/v1/tasks/", json=body)
        return str(_answered(reply, 200, 201).json()["id"])

    def _submit_a2a(self, item: Item, run_after: str | None) -> str:
        message = {**self._message(item), "metadata": {TASK_OPTIONS: _options(item, run_after)}}
        params = {"message": message, "configuration": {"returnImmediately": True, "historyLength": 0}}
        return str(self._call(item.agent, "SendMessage", params)["result"]["task"]["id"])

    def _cancel_rest(self, item: Item) -> str:
        reply = self._client().post(f"/api/v1/tasks/{item.task_id}/cancel/")
        return "cancelled" if _answered(reply, 200, 409).status_code == 200 else "too late"

    def _cancel_a2a(self, item: Item) -> str:
        answer = self._call(item.agent, "CancelTask", {"id": item.task_id})
        return "cancelled" if "result" in answer else "too late"

    def _call(self, agent: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = dict(
            _answered(self._client().post(f"/a2a/{agent}/", json=call, headers={"A2A-Version": "1.0"}), 200).json()
        )
        if answer.get("error", {}).get("code") == INTERNAL_ERROR:
            raise Unanswered(str(answer["error"]))
        assert "result" in answer or method == "CancelTask", answer
        return answer

    def _message(self, item: Item) -> dict[str, Any]:
        named = {"messageId": item.message_id, "role": "ROLE_USER", "contextId": self.context_id}
        return {**named, "parts": item.parts}

    def _client(self) -> httpx.Client:
        """One per thread."""
        if not hasattr(self._threads, "client"):
            self._threads.client = httpx.Client(base_url=self.live.stack.url, timeout=10)
        client: httpx.Client = self._threads.client
        return client

    # As an operator --------------------------------------------------------------------------------------------------

    def look(self) -> dict[str, str]:
        """The statuses by id; remembers the end that each task was first seen at."""
        rows = self.live.sql("SELECT id::text, status FROM tasks_app_task WHERE context_id = %s", self.context_id)
        self._statuses = statuses = dict(rows)
        for item in list(self.items):
            status = statuses.get(item.task_id, "")
            if status in TERMINAL and not item.seen:
                item.seen = status
        return statuses

    def under_way(self) -> None:
        """Returns in the middle: some have completed, some run in both lanes, some wait."""

        def middle() -> bool:
            rows = self.live.sql(
                "SELECT count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'pending'),"
                " count(DISTINCT lane) FILTER (WHERE status = 'running') FROM tasks_app_task WHERE context_id = %s",
                self.context_id,
            )
            completed, pending, lanes = rows[0]
            return bool(completed >= 5 and pending >= 5 and lanes == 2)

        wait_for(middle, timeout_s=60, what="the load is under way")

    def ends_well(self, *, timeout_s: float = 120) -> None:
        """Returns when every task has ended and every slot is given back, and the judge has found nothing."""

        def over() -> bool:
            statuses = self.look()
            self.cancel_due()
            return all(status in TERMINAL for status in statuses.values()) and not self._unreleased()

        wait_for(over, timeout_s=timeout_s, what="every task of the load ends")
        submitted = [item.submitted() for item in self.items]
        found = violations(gather(self.live, self.context_id, submitted, self.live.ledger))
        assert not found, "\n".join([f"{len(found)} violations", *found[:50]])

    def _unreleased(self) -> bool:
        return bool(self.live.sql(f"SELECT 1 {_ATTEMPTS} AND released_at IS NULL LIMIT 1", self.context_id))

    def losses(self) -> list[str]:
        """How the attempts ended that were followed by another, unless it was as their handlers wished."""
        query = f"SELECT outcome {_ATTEMPTS} AND number < task.attempt AND outcome NOT IN ('retried', 'snoozed')"
        return [row[0] for row in self.live.sql(query, self.context_id)]


_ATTEMPTS = (
    "FROM tasks_app_taskattempt attempt JOIN tasks_app_task task ON task.id = attempt.task_id WHERE context_id = %s"
)


class Unanswered(Exception):
    """The server could not do it now; what it did of it, nobody knows."""


def _until_answered(send: Callable[[], str]) -> str:
    def attempt() -> str:
        try:
            return send()
        except (httpx.TransportError, Unanswered):
            return ""

    return str(wait_for(attempt, timeout_s=PATIENCE_S, what="the door answers"))


def _answered(reply: httpx.Response, *expected: int) -> httpx.Response:
    if reply.status_code >= 500:
        raise Unanswered(reply.text[:200])
    assert reply.status_code in expected, f"{reply.status_code}: {reply.text}"
    return reply


def _options(item: Item, run_after: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {"priority": item.priority, "parameters": item.parameters}
    return {**options, "run_after": run_after} if run_after else options
