"""Turns through real workers: a question, an answer, and a process that dies in between."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from a2a.types import Message, Part, Role

from tasks_app import engine
from tasks_app.engine import Delivered, FollowUp
from tasks_app.engine.core import arun
from tests.live import Live, wait_for

pytestmark = pytest.mark.services


def answer(live: Live, task_id: str, text: str) -> Delivered:
    """Delivers a further message of the task's client."""
    client_id, agent = live.sql("SELECT client_id, agent FROM tasks_app_task WHERE id = %s", task_id)[0]
    message = Message(message_id=str(uuid4()), task_id=task_id, role=Role.ROLE_USER, parts=[Part(text=text)])
    item = FollowUp(
        task_id=UUID(task_id),
        client_id=client_id,
        agent=agent,
        message_id=message.message_id,
        message=message.SerializeToString(),
    )

    async def deliver() -> Delivered:
        async with await psycopg.AsyncConnection.connect(live.database_url, autocommit=True) as conn:
            return (await arun(conn, engine.deliver, [item]))[0]

    return asyncio.run(deliver())


def asked(live: Live, task_id: str) -> dict[str, Any]:
    """The task, once it waits for its client."""

    def look() -> dict[str, Any] | None:
        task = live.task(task_id)
        return task if task["status"] == "input_required" else None

    return dict(wait_for(look, what=f"task {task_id} asks"))


@pytest.mark.parametrize(
    ("agent", "text", "outcomes"),
    [
        ("converses", "the left one, and it dies", ["interrupted", "process_lost", "completed"]),
        ("converses-io", "the left one", ["interrupted", "completed"]),
    ],
)
def test_a_question_and_its_answer_survive_a_process(live: Live, agent: str, text: str, outcomes: list[str]) -> None:
    task_id = live.submit(agent)
    task = asked(live, task_id)
    assert task["messages"][-1]["parts"][1] == {"url": "https://example.org/choices"}
    assert answer(live, task_id, text).accepted
    task = live.ended(task_id)
    assert [attempt["outcome"] for attempt in task["attempts"]] == outcomes
    contents = {item["artifact_id"]: live.http.get(item["content_url"]).text for item in task["artifacts"]}
    assert contents == {"log": "turn 1turn 2" + "turn 2" * (len(outcomes) - 2), "result-2": f"which one? {text}"}
    assert answer(live, task_id, "and then?").ended
