"""An unmodified a2a-sdk ``AgentExecutor`` as an agent (A2A 1.0, sections 4.1 and 4.2), each end to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a2a.types import AgentCard, AgentSkill, Role, TaskState
from a2a.types import Task as WireTask
from google.protobuf.json_format import MessageToDict

from tasks_app import agents, engine, reads
from tasks_app.a2a import wire
from tasks_app.models import Outcome, Task, TaskAttempt, TaskEvent
from tasks_app.policies import RetryPolicy
from tests import executors
from tests.live import wait_for
from workers.adapters import executor_agent
from workers.testing import OneProcess, one_process

_SAID: dict[str, Any] = {"description": "One of the tests' executors.", "retry": RetryPolicy(initial_s=0.01)}
executor_agent("x-hello", executor="tests.executors:HelloWorld", **_SAID)
executor_agent("x-instance", executor="tests.executors:an_executor", **_SAID)
executor_agent("x-factory", executor="tests.executors.make_executor", lane="cpu", **_SAID)
executor_agent("x-nonsense", executor="tests.executors:make_nonsense", max_attempts=1, **_SAID)
executor_agent("x-nowhere", executor="tests.nowhere:Executor", max_attempts=1, **_SAID)
executor_agent("x-updating", executor="tests.executors:Updating", max_attempts=2, **_SAID)
executor_agent("x-snapshot", executor="tests.executors:Snapshot", **_SAID)
executor_agent("x-replies", executor="tests.executors:HelloWorld", replies="message", **_SAID)
executor_agent("x-talks", executor="tests.executors:Talks", **_SAID)
executor_agent("x-slow", executor="tests.executors:Slow", **_SAID)
executor_agent("x-stubborn", executor="tests.executors:Stubborn", **_SAID)


@pytest.fixture
def system(transactional_db: None) -> Iterator[OneProcess]:
    with one_process() as made:
        yield made


def whole(task: dict[str, Any]) -> WireTask:
    """The A2A Task of what REST gave."""
    client_id = Task.objects.get(id=task["id"]).client_id
    record = engine.run(reads.task, Task.objects.get(id=task["id"]).id, client_id=client_id)
    assert record is not None
    return wire.task(record)


def said(task: WireTask) -> list[str]:
    """What the agent said, oldest first."""
    return [message.parts[0].text for message in task.history if message.role == Role.ROLE_AGENT]


def test_a_message_is_the_last_word_of_a_task_that_completes(system: OneProcess) -> None:
    """The executor is given by its class, by itself, or by what makes it."""
    for name in ("x-hello", "x-instance", "x-factory", "x-replies"):
        task = whole(system.run(name, "hi"))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert (task.status.message.parts[0].text, said(task)) == ("Hello World", ["Hello World"])
        assert task.status.message.task_id == task.id
        assert not task.artifacts


def test_what_is_no_executor_fails_its_task_and_says_so(system: OneProcess) -> None:
    nonsense, nowhere = system.run("x-nonsense"), system.run("x-nowhere")
    assert "makes a Message, which is no AgentExecutor" in nonsense["error"]["message"]
    assert "tests.nowhere" in nowhere["error"]["message"]
    assert "import_string" in TaskAttempt.objects.get(task_id=nowhere["id"]).traceback


def test_messages_progress_and_pieces_of_artifacts_are_recorded_as_they_come(system: OneProcess) -> None:
    task = whole(system.run("x-updating", "streams"))
    report, link = task.artifacts
    assert (report.artifact_id, report.name) == ("report", "report.txt")
    assert [part.text for part in report.parts] == ["one ", "two ", "three"]
    assert (link.parts[0].url, link.parts[0].media_type) == ("https://example.org/page", "text/html")
    assert MessageToDict(link.metadata) == {"kind": "link"}
    assert said(task) == ["on it", "there you are"]
    assert MessageToDict(task.status.message.metadata) == {"mood": "good"}
    assert 0.5 in TaskEvent.objects.filter(task_id=task.id, kind="progress").values_list("progress", flat=True)
    updates = [
        wire.event(event, context_id=task.context_id).artifact_update
        for event in engine.run(reads.events, Task.objects.get().id, after=0)
        if event.kind == "artifact"
    ]
    assert [(update.append, update.last_chunk) for update in updates[:3]] == [
        (False, False),
        (True, False),
        (True, True),
    ]


ENDS: dict[str, tuple[str, dict[str, str] | None, int]] = {
    "fails": ("failed", {"code": "agent_failed", "message": "the printer is on fire"}, 1),
    "rejects": ("rejected", {"code": "rejected", "message": "not with me"}, 1),
    "gives_up": ("cancelled", {"code": "cancelled", "message": "the agent gave the task up"}, 1),
    "raises": ("failed", {"code": "handler_error", "message": "ValueError: a bug"}, 2),
    "breaks": ("failed", {"code": "handler_error", "message": "InternalError: a broken part"}, 2),
    "refuses": ("failed", {"code": "invalid_params", "message": "what is that?"}, 1),
    "raises_after_its_end": ("completed", None, 1),
    "returns": ("completed", None, 1),
}


def test_every_end_of_an_executor_is_an_end_of_its_task(system: OneProcess) -> None:
    ids = {text: system.submit("x-updating", text) for text in ENDS}
    tasks = {text: system.ended(task_id) for text, task_id in ids.items()}
    assert {text: (task["status"], task["error"], len(task["attempts"])) for text, task in tasks.items()} == ENDS


def test_what_the_sdks_server_refuses_fails_the_task(system: OneProcess) -> None:
    for text, complaint in (("chats", "a Message after events"), ("mixes", "'another'")):
        task = system.run("x-updating", text)
        assert task["error"]["code"] == "invalid_agent_response"
        assert complaint in task["error"]["message"]


def test_all_of_a_message_is_kept_with_the_failure_that_it_explains(system: OneProcess) -> None:
    task = whole(system.run("x-updating", "fails"))
    assert [part.WhichOneof("content") for part in task.status.message.parts] == ["text", "url"]


def test_a_task_that_was_said_whole_merges_into_the_one_that_was_accepted(system: OneProcess) -> None:
    task = whole(system.run("x-snapshot", "hi"))
    assert task.status.state == TaskState.TASK_STATE_COMPLETED
    assert [message.parts[0].text for message in task.history] == ["hi", "a thought", "all done"]
    assert [(artifact.name, artifact.parts[0].raw) for artifact in task.artifacts] == [("answer", b"42")]


def test_an_executor_sees_a_conversation_as_from_the_sdks_server(system: OneProcess) -> None:
    first = system.run("x-talks", "begin")
    second = system.answer(first["id"], "red")
    third = system.answer(first["id"], "blue")
    assert [task["status"] for task in (first, second, third)] == ["input_required", "input_required", "completed"]
    task = whole(third)
    heard = ["begin", "question 1", "red"]
    assert task.status.message.parts[0].text == (
        f"{heard} ['answer-0', 'answer-1'] TASK_STATE_INPUT_REQUIRED question 2"
    )
    assert [artifact.name for artifact in task.artifacts] == ["answer-0", "answer-1", "answer-2"]
    outcomes = TaskAttempt.objects.order_by("number").values_list("outcome", flat=True)
    assert list(outcomes) == [Outcome.INTERRUPTED, Outcome.INTERRUPTED, Outcome.COMPLETED]


def test_who_waits_for_authorisation_by_another_way_goes_on_by_itself(system: OneProcess) -> None:
    """The client is told at once what to authorise, while ``execute`` waits for it (A2A 1.0, section 7.6.1)."""
    task_id = system.submit("x-updating", "awaits")
    events = TaskEvent.objects.filter(task_id=task_id, kind="message", status="running")
    wait_for(events.exists, what="the client is told")
    task = whole(system.ended(task_id))
    assert (task.status.state, said(task)) == (
        TaskState.TASK_STATE_COMPLETED,
        ["log in over there", "thank you"],
    )


def test_an_executor_is_told_who_asks_and_how(system: OneProcess) -> None:
    related = system.run("echo", "what was before")
    message = {"parts": [{"text": "tells"}], "referenceTaskIds": [related["id"]]}
    task_id = system.submit("x-updating", message=message, metadata={"a": 1})
    told = MessageToDict(whole(system.ended(task_id)).artifacts[0].parts[0].data)
    assert told == {"user": "local", "modes": [], "metadata": {"a": 1.0}, "related": ["what was before"]}


def test_two_runs_of_one_executor_are_at_once_and_share_it(system: OneProcess, tmp_path: Path) -> None:
    there = tmp_path / "there"
    ids = [system.submit("x-slow", str(there)) for _ in range(2)]
    wait_for(lambda: len(executors.notes(there)) == 2, what="both began")
    there.touch()
    tasks = [whole(system.ended(task_id)) for task_id in ids]
    assert [task.status.message.parts[0].text for task in tasks] == ["2 at once"] * 2


def test_a_cancel_calls_the_executors_own_and_then_stops_it(system: OneProcess, tmp_path: Path) -> None:
    there = tmp_path / "there"
    task_id = system.submit("x-slow", str(there))
    wait_for(lambda: executors.notes(there), what="it began")
    system.cancel(task_id)
    released = TaskAttempt.objects.filter(task_id=task_id, released_at__isnull=False)
    wait_for(released.exists, what="its slot is free")
    assert executors.notes(there) == ["began", "cancel", "interrupted"]
    assert Task.objects.get().status == "cancelled"
    assert list(TaskEvent.objects.filter(status="cancelled").values_list("attempt", flat=True)) == [0]


def test_one_that_swallows_its_cancellation_holds_its_slot_until_it_ends(
    system: OneProcess, tmp_path: Path, settings: Any
) -> None:
    settings.A2A_STOP_GRACE_S = 1.0
    there = tmp_path / "there"
    task_id = system.submit("x-stubborn", str(there))
    wait_for(lambda: executors.notes(there), what="it began")
    system.cancel(task_id)
    wait_for(lambda: "cancel" in executors.notes(there), what="it was told")
    assert system.run("echo", "meanwhile")["status"] == "completed"
    attempts = TaskAttempt.objects.filter(task_id=task_id, released_at__isnull=False)
    assert not attempts.exists()
    there.touch()
    wait_for(attempts.exists, what="its slot is free")
    assert executors.notes(there) == ["began", "cancel", "ended"]


def test_what_is_not_said_is_taken_from_the_sdks_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_registry", {})
    skill = AgentSkill(id="s", name="S", description="Does.", tags=["t"], examples=["e"])
    card = AgentCard(
        name="theirs", description="Theirs.", version="2.1", skills=[skill], default_input_modes=["text/plain"]
    )
    executor_agent("mine", executor="tests.executors:HelloWorld", card=card, version="3.0", max_running=2)
    spec = agents.get("mine")
    assert (spec.description, spec.version, spec.input_modes, spec.max_running) == (
        "Theirs.",
        "3.0",
        ("text/plain",),
        2,
    )
    assert (spec.skills[0].id, spec.skills[0].tags, spec.skills[0].examples) == ("s", ("t",), ("e",))
    assert (spec.input_modes, spec.output_modes) == (("text/plain",), ("application/json", "text/plain"))
    with pytest.raises(ValueError, match="two agents are named 'mine'"):
        executor_agent("mine", executor="tests.executors:Slow", description="Another.")


def test_declaring_such_agents_imports_neither_the_sdks_server_nor_its_client() -> None:
    """Every process does it, and an idle one is small."""
    code = "import django, sys, a2a_project.celery; django.setup(); import workers.jobs, workers.signals"
    environ = {**os.environ, "A2A_OPEN_MODE": "1", "A2A_AGENTS": "tests.agents"}
    command = [sys.executable, "-c", f"{code}; print(*sys.modules)"]
    imported = subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.split()
    assert {"httpx", "grpc", "a2a.client", "a2a.server"}.isdisjoint(imported)
    assert {"tests.agents", "workers.adapters.executor"} <= set(imported)
