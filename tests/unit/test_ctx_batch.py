"""``ctx.batch``: a handler submits tasks of its own client, once for each turn however often it is tried."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import transaction

from tasks_app.agents import AgentError, agent
from tasks_app.models import Batch, Client, Task
from workers.testing import one_process

pytestmark = pytest.mark.django_db(transaction=True)
PARTS = [{"message": {"parts": [{"text": text}]}} for text in ("a", "b")]


@agent("splits", lane="cpu", description="Submits two tasks, and fails the first time.", max_attempts=2)
def splits(ctx: Any) -> str:
    batch_id = ctx.batch(PARTS, key="parts", defaults={"agent": "echo"}, name=ctx.text)
    if ctx.attempt == 1:
        raise AgentError("once more", retryable=True, delay_s=0.0)
    return str(batch_id)


@agent("splits-io", lane="io", description="The same, as a coroutine.", max_attempts=2)
async def splits_io(ctx: Any) -> str:
    return await asyncio.to_thread(splits, ctx)


@agent("splits-badly", lane="io", description="Submits what cannot be.", max_attempts=1)
def splits_badly(ctx: Any) -> None:
    for body in ({"metadata": {"x": float("nan")}}, {"metadata": {"x": object()}}, {"metadata": {"x": 2**70}}):
        with pytest.raises(ValueError, match=r"ctx\.batch|JSON"):
            ctx.batch(PARTS, key="odd", **body)
    with transaction.atomic(), pytest.raises(RuntimeError, match="not within a transaction"):
        ctx.batch(PARTS, key="undone")
    try:
        ctx.batch(PARTS, key="parts")
    except ValueError as error:
        raise AgentError(str(error)[:200], code="bad_batch") from error


@pytest.mark.parametrize("name", ["splits", "splits-io"])
def test_a_handler_makes_one_batch_in_all_attempts(name: str) -> None:
    with one_process() as system:
        task = system.run(name, "pieces")
        assert (task["status"], task["attempt"]) == ("completed", 2)
        batch = Batch.objects.get()
        for made in Task.objects.filter(batch=batch):
            system.ended(str(made.id))
    assert (batch.name, batch.size, batch.client.name) == ("pieces", 2, task["client"])
    assert set(Task.objects.filter(batch=batch).values_list("status", flat=True)) == {"completed"}


def test_what_is_wrong_is_named() -> None:
    with one_process() as system:
        error = system.run("splits-badly")["error"]
    assert error["code"] == "bad_batch"
    assert "tasks[0].agent: is required" in error["message"]
    assert not Batch.objects.exists()


def test_at_a_limit_of_the_client_it_is_tried_again() -> None:
    with one_process() as system:
        task_id = system.submit("splits", "x")
        assert system.ended(task_id)["status"] == "completed"
        Client.objects.update(max_queued=1)
        task = system.run("splits", "y")
    assert (task["status"], task["error"]["code"]) == ("failed", "resource_exhausted")
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["retried", "failed"]
