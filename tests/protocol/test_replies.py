"""Agents that reply with messages, over the three bindings (A2A 1.0, sections 3.1.1, 3.1.2 and 3.2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks_app import agents
from tasks_app.agents import AgentError
from tasks_app.models import Task
from tests.protocol.bindings import Binding
from tests.protocol.doors import EXTENSION, message
from workers.testing import OneProcess, one_process


@pytest.fixture
def chatty() -> Iterator[None]:
    """An agent that answers with a message, asks when there is a question mark, and fails at «fail»."""

    @agents.agent("chatty", lane="io", description="Chats.", replies="message", max_attempts=1)
    async def chat(ctx: Any) -> str:
        if "fail" in ctx.text:
            raise AgentError("no such luck", code="luck")
        if "?" in ctx.text:
            ctx.require_input("which one?")
        return f"you said {ctx.text}"

    yield
    del agents._registry["chatty"]


@pytest.fixture
def system(transactional_db: None, chatty: None) -> Iterator[OneProcess]:
    with one_process() as running:
        yield running


def said(text: str, **configuration: Any) -> dict[str, Any]:
    return {"message": message(parts=[{"text": text}]), "configuration": configuration}


@pytest.mark.parametrize("immediately", [False, True])
def test_the_answer_is_the_message_alone(binding: Binding, system: OneProcess, immediately: bool) -> None:
    """returnImmediately has no effect on it."""
    answer = binding.call("SendMessage", said("hello", returnImmediately=immediately), agent="chatty")
    assert list(answer) == ["message"]
    reply = answer["message"]
    assert (reply["role"], reply["parts"], "taskId" in reply) == ("ROLE_AGENT", [{"text": "you said hello"}], False)
    task_id = reply["metadata"][EXTENSION]["task_id"]
    assert Task.objects.get(id=task_id).status == "completed"
    assert binding.call("GetTask", {"id": task_id}, agent="chatty")["status"]["state"] == "TASK_STATE_COMPLETED"


def test_a_stream_is_the_message_and_closes(binding: Binding, system: OneProcess) -> None:
    params = said("hello")
    for _ in range(2):  # the same message again finds the same reply
        events = binding.stream("SendStreamingMessage", params, agent="chatty")
        assert [list(event.data) for event in events] == [["message"]]
        assert events[0].data["message"]["parts"] == [{"text": "you said hello"}]
    assert Task.objects.count() == 1


@pytest.mark.parametrize(("text", "state"), [("fail", "FAILED"), ("which?", "INPUT_REQUIRED")])
def test_where_there_is_no_reply_the_task_answers(binding: Binding, system: OneProcess, text: str, state: str) -> None:
    task = binding.call("SendMessage", said(text), agent="chatty")["task"]
    assert task["status"]["state"] == f"TASK_STATE_{state}"
    (event,) = binding.stream("SendStreamingMessage", said(text), agent="chatty")
    assert event.data["task"]["status"]["state"] == f"TASK_STATE_{state}"
    if state == "INPUT_REQUIRED":
        answered = {"message": message(taskId=task["id"], parts=[{"text": "that one"}])}
        reply = binding.call("SendMessage", answered, agent="chatty")["message"]
        assert reply["parts"] == [{"text": "you said that one"}]
