"""``workers.testing``: what an author of agents tests with; and turns from one end to the other, in both lanes."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from a2a.types import Message, Part

from artifacts_app.models import ArtifactChunk
from tasks_app.agents import AgentError, AuthRequired, Cancelled, Rejected, agent
from tasks_app.models import Outcome, TaskAttempt
from workers.testing import one_process


@agent("talks", lane="cpu", description="Asks twice, and then says what it heard.")
@agent("talks-in-a-thread", lane="io", description="The same, on a thread of the io lane.")
def talks(ctx: Any) -> dict[str, Any] | None:
    if ctx.text == "no":
        raise Rejected("I do not do that")
    if ctx.turn == 1:
        ctx.require_input("which one?")
    if ctx.turn == 2:
        raise AuthRequired(Message(parts=[Part(text="may I?"), Part(url="https://example.org/grant")]))
    heard = [message.parts[0].text for message in ctx.history]
    return {"history": heard, "text": ctx.text, "key": ctx.idempotency_key.partition(":")[2], "attempt": ctx.attempt}


@agent("talks-io", lane="io", description="The same, as a coroutine.")
async def talks_io(ctx: Any) -> dict[str, Any] | None:
    return talks(ctx)  # type: ignore[no-any-return]


@agent("last-word", lane="io", description="Ends by what it returns or raises.", max_attempts=1)
async def last_word(ctx: Any) -> Message:
    said = Message(parts=[Part(text=f"goodbye, {ctx.client}"), Part(url="https://example.org/bye")])
    if ctx.text:
        raise {"cancel": Cancelled(said), "fail": AgentError(said, code="sad")}[ctx.text]
    return said


@agent("replies", lane="io", description="Replies with a message.", replies="message", max_attempts=1)
async def replies(ctx: Any) -> Any:
    return {"text": "a text", "message": Message(parts=[Part(text="a message")]), "json": {}, "nothing": None}[ctx.text]


@pytest.mark.django_db(transaction=True)
def test_an_agent_that_replies_with_messages_returns_one() -> None:
    with one_process() as system:
        tasks = [system.run("replies", text) for text in ("text", "message", "json", "nothing")]
    for task, said in zip(tasks[:2], ("a text", "a message"), strict=True):
        assert (task["status"], task["artifacts"]) == ("completed", [])
        assert task["messages"][-1]["parts"] == [{"text": said}]
    assert [task["error"]["code"] for task in tasks[2:]] == ["bad_result", "bad_result"]


@pytest.mark.django_db(transaction=True)
def test_what_a_handler_says_last_is_a_message_with_all_its_parts() -> None:
    with one_process() as system:
        tasks = [system.run("last-word", text) for text in ("", "cancel", "fail")]
    assert [task["status"] for task in tasks] == ["completed", "cancelled", "failed"]
    assert [task["error"] and task["error"]["code"] for task in tasks] == [None, "cancelled", "sad"]
    for task in tasks:
        assert [*task["messages"][1]["parts"]] == [{"text": "goodbye, local"}, {"url": "https://example.org/bye"}]
        assert task["artifacts"] == []


@pytest.mark.django_db(transaction=True)
def test_an_agent_of_either_lane_runs_end_to_end_in_one_process() -> None:
    before = threading.active_count()
    with one_process() as system:
        echoed = system.run("echo", "hello")
        slept = system.run("sleep-cpu", parameters={"seconds": 0}, priority="critical")
    assert (echoed["status"], slept["status"]) == ("completed", "completed")
    assert [artifact["name"] for artifact in echoed["artifacts"]] == ["echo"]
    assert threading.active_count() <= before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["talks", "talks-in-a-thread", "talks-io"])
def test_a_conversation_goes_on_turn_by_turn(name: str) -> None:
    with one_process() as system:
        first = system.run(name, "begin")
        second = system.answer(first["id"], "the left one")
        third = system.answer(first["id"], "you may")
        rejected = system.run(name, "no")
    assert [task["status"] for task in (first, second, third)] == ["input_required", "auth_required", "completed"]
    assert first["input_expires_at"] is not None
    assert [message["role"] for message in third["messages"]] == ["ROLE_USER", "ROLE_AGENT"] * 2 + ["ROLE_USER"]
    assert third["messages"][3]["parts"][1] == {"url": "https://example.org/grant"}
    assert json.loads(bytes(ArtifactChunk.objects.get(artifact__artifact_id="result-3").content or b"")) == {
        "history": ["begin", "which one?", "the left one", "may I?"],
        "text": "you may",
        "key": "3",
        "attempt": 3,
    }
    assert (rejected["status"], rejected["error"]) == (
        "rejected",
        {"code": "rejected", "message": "I do not do that"},
    )
    outcomes = TaskAttempt.objects.filter(task_id=third["id"]).order_by("number").values_list("outcome", flat=True)
    assert list(outcomes) == [Outcome.INTERRUPTED, Outcome.INTERRUPTED, Outcome.COMPLETED]
