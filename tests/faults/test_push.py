"""Notifications through kills: every event of a task reaches its webhook, in order, at least once (A2A 1.0, 4.3.3)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from stack import Services
from tasks_app.engine.core import arun
from tasks_app.push import configs
from tasks_app.push.values import NewPush, Push
from tests.faults.processes import is_gone, put_back
from tests.live import Live, wait_for
from tests.receivers import Receiver, Request, receiver

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

STEPS = {"seconds": 3, "steps": 15}


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def followed(live: Live, hook: Receiver) -> str:
    """A task of a few seconds whose events are sent from where it stands now."""
    task_id = live.submit("sleep", parameters=STEPS)
    push = NewPush(
        config_id="hook",
        named=True,
        url=hook.url,
        host=f"127.0.0.1:{hook.port}",
    )

    async def register() -> object:
        async with await psycopg.AsyncConnection.connect(live.database_url, autocommit=True) as conn:
            row = await (await conn.execute("SELECT client_id FROM tasks_app_task WHERE id = %s", [task_id])).fetchone()
            assert row is not None
            return await arun(conn, configs.create, UUID(task_id), push, client_id=row[0], most=10)

    assert isinstance(asyncio.run(register()), Push)
    return task_id


def arrives_whole(live: Live, hook: Receiver, task_id: str) -> None:
    """Each event up to the last, in order; a repeat is the same message under the same id."""
    ended = "SELECT generation FROM tasks_app_task WHERE id = %s AND completed_at IS NOT NULL"
    last = wait_for(lambda: live.sql(ended, task_id), what="the task ends")[0][0]
    wait_for(lambda: last in hook.generations, what=f"event {last} arrives", timeout_s=90)
    first = list(dict.fromkeys(hook.generations))
    assert first == list(range(first[0], last + 1))
    bodies = {request.webhook_id: request.body for request in hook.requests}
    assert len(bodies) == len(first)
    assert all(bodies[request.webhook_id] == request.body for request in hook.requests)
    state = "SELECT state FROM tasks_app_pushconfig WHERE task_id = %s"
    wait_for(lambda: live.sql(state, task_id) == [("done",)], what="nothing is left to send")


def test_a_running_stack_sends_what_happens(live: Live, hook: Receiver) -> None:
    task_id = followed(live, hook)
    arrives_whole(live, hook, task_id)
    assert len(hook.requests) == len(set(hook.generations)), "each once, where nothing fails"
    assert hook.requests[-1].json["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


@pytest.mark.parametrize("name", ["beat", "dispatcher", "worker-io"])
def test_killing_a_process_of_ours_loses_no_event(live: Live, hook: Receiver, name: str) -> None:
    task_id = followed(live, hook)
    wait_for(lambda: hook.requests, what="the first event arrives")
    live.stack.kill(name)
    live.stack.start_process(name)
    arrives_whole(live, hook, task_id)
    put_back(live)


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
def test_killing_a_service_loses_no_event(live: Live, hook: Receiver, service: Services, name: str) -> None:
    task_id = followed(live, hook)
    wait_for(lambda: hook.requests, what="the first event arrives")
    service.kill(name)
    service.start_process(name)
    service.wait_ready(name)
    arrives_whole(live, hook, task_id)


def test_killing_the_sender_while_it_sends_loses_no_event(live: Live, hook: Receiver) -> None:
    """It had the answer, and the database did not know: the same event comes again, under the same id."""
    task_id = followed(live, hook)
    pid = live.stack.pid("worker-system")

    def kill(request: Request) -> tuple[int, dict[str, str]]:
        if len(hook.requests) == 3:
            os.kill(pid, signal.SIGKILL)
        return 200, {}

    hook.reply = kill
    wait_for(lambda: is_gone(pid), what="the sender is killed")
    hook.reply = lambda request: (200, {})
    put_back(live)
    live.ended(task_id)
    assert len(hook.requests) == 3, "the claim of the dead holds"
    live.sql("UPDATE tasks_app_pushconfig SET next_at = now() WHERE task_id = %s RETURNING id", task_id)
    arrives_whole(live, hook, task_id)
    assert len(hook.requests) == len(set(hook.generations)) + 1
