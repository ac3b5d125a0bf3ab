"""Agents elsewhere, reached over A2A: a plain server of the a2a-sdk, in a process of its own, and the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from a2a.client.errors import A2AClientError
from a2a.types import Message, Part, TaskState
from google.protobuf.json_format import MessageToDict

from stack.ports import find_free
from tasks_app.agents import AuthRequired
from tasks_app.models import Outcome, Task, TaskAttempt, TaskEvent
from tasks_app.policies import RetryPolicy
from tasks_app.status import TaskStatus
from tests import executors
from tests.live import wait_for
from tests.remotes import TOKEN, Remotes, remotes
from tests.unit.test_executor_agent import said, whole
from workers import jobs
from workers.adapters import conversation, leftovers, remote_agent
from workers.adapters.relay import End, settle
from workers.testing import OneProcess, one_process

PORT = find_free()
BASE = f"http://127.0.0.1:{PORT}/"
_SAID: dict[str, Any] = {"description": "One of the tests' remote agents.", "retry": RetryPolicy(initial_s=0.01)}
UPDATING = [f"updating{way}" for way in ("", "-rest", "-grpc", "-old", "-polled", "-old-polled")]
for _name in [*UPDATING, "hello", "snapshot", "talks", "talks-polled", "slow", "slow-polled", "elsewhere", "moved"]:
    remote_agent(f"r-{_name}", url=f"{BASE}{_name}/", max_attempts=20, **_SAID)
remote_agent("r-busy", url=f"{BASE}busy/.well-known/agent-card.json", max_attempts=3, **_SAID)
_AGAIN = RetryPolicy(initial_s=0.01, codes=frozenset({"remote_failed"}))
remote_agent("r-again", url=f"{BASE}updating/", max_attempts=3, **{**_SAID, "retry": _AGAIN})
remote_agent("r-nobody", url="http://127.0.0.1:9/", max_attempts=2, **_SAID)
remote_agent("r-stranger", url=f"{BASE}guarded/", **_SAID)
remote_agent("r-guarded", url=f"{BASE}guarded/", bearer_from="TEST_REMOTE_TOKEN", **_SAID)
remote_agent("r-elsewhere-secret", url=f"{BASE}elsewhere/", bearer_from="TEST_REMOTE_TOKEN", **_SAID)
remote_agent(
    "r-elsewhere-known", url=f"{BASE}elsewhere/", bearer_from="TEST_REMOTE_TOKEN", hosts=("localhost",), **_SAID
)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remotes]:
    with remotes(PORT, tmp_path_factory.mktemp("remotes") / "log") as made:
        yield made


@pytest.fixture
def system(there: Remotes, transactional_db: None) -> Iterator[OneProcess]:
    with one_process() as made:
        yield made


def test_a_remote_agents_messages_and_artifacts_arrive_over_every_binding_and_version(system: OneProcess) -> None:
    """Streamed and polled; A2A 1.0 by JSON-RPC, HTTP+JSON and gRPC, and 0.3."""
    ids = {name: system.submit(f"r-{name}", "streams") for name in UPDATING}
    for name, task_id in ids.items():
        task = whole(system.ended(task_id))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED, (name, task.status)
        report, link = task.artifacts
        assert (report.artifact_id, report.name) == ("report", "report.txt"), name
        assert [part.text for part in report.parts] == ["one ", "two ", "three"], name
        assert (link.parts[0].url, MessageToDict(link.metadata)) == ("https://example.org/page", {"kind": "link"}), name
        assert said(task) == ["on it", "there you are"], name
        assert MessageToDict(task.status.message.metadata) == {"mood": "good"}, name
    streamed = TaskEvent.objects.filter(task_id=ids["updating"])
    assert 0.5 in streamed.filter(kind="progress").values_list("progress", flat=True)
    assert streamed.filter(kind="artifact").count() == 4


@pytest.mark.parametrize("name", ["r-updating", "r-updating-polled"])
def test_a_part_with_a_media_type_that_is_none_arrives_as_its_kind_has_it(system: OneProcess, name: str) -> None:
    (artifact,) = whole(system.run(name, "mislabels")).artifacts
    assert [part.media_type for part in artifact.parts] == ["application/octet-stream", "text/plain"]


ENDS: dict[str, tuple[str, dict[str, str] | None]] = {
    "fails": ("failed", {"code": "remote_failed", "message": "the printer is on fire"}),
    "rejects": ("rejected", {"code": "rejected", "message": "not with me"}),
    "gives_up": ("failed", {"code": "remote_canceled", "message": "the remote agent's task was cancelled there"}),
    "refuses": ("failed", {"code": "remote_refused", "message": "the remote agent refuses: what is that?"}),
    "raises": ("failed", {"code": "remote_failed", "message": "the remote agent failed, and did not say why"}),
    "raises_after_its_end": ("completed", None),
}


def test_every_end_of_a_remote_task_is_an_end_of_ours(system: OneProcess) -> None:
    ids = {text: system.submit("r-updating", text) for text in ENDS}
    tasks = {text: system.ended(task_id) for text, task_id in ids.items()}
    assert {text: (task["status"], task["error"]) for text, task in tasks.items()} == ENDS
    assert {len(task["attempts"]) for task in tasks.values()} == {1}


def test_a_remote_task_that_failed_is_begun_anew_if_the_policy_says_so(system: OneProcess) -> None:
    task = system.run("r-again", "fails")
    assert (task["error"]["code"], len(task["attempts"])) == ("remote_failed", 3)
    assert [message["parts"][0]["text"] for message in task["messages"]].count("the printer is on fire") == 3
    assert Task.objects.get().checkpoints.get().data["round"] == 3


def test_a_remote_that_replies_with_a_message_completes_the_task_with_it(system: OneProcess) -> None:
    task = whole(system.run("r-hello", "hi"))
    assert (task.status.state, said(task)) == (TaskState.TASK_STATE_COMPLETED, ["Hello World"])
    assert task.status.message.task_id == task.id


@pytest.mark.parametrize("name", ["r-talks", "r-talks-polled"])
def test_a_remotes_question_is_ours_and_the_answer_goes_to_its_task(system: OneProcess, name: str) -> None:
    first = system.run(name, "begin")
    second = system.answer(first["id"], "red")
    third = system.answer(first["id"], "blue")
    assert [task["status"] for task in (first, second, third)] == ["input_required", "input_required", "completed"]
    task = whole(third)
    heard = ["begin", "question 1", "red"]
    told = f"{heard} ['answer-0', 'answer-1'] TASK_STATE_INPUT_REQUIRED question 2"
    assert [message.parts[0].text for message in task.history] == [*heard, "question 2", "blue", told]
    assert [artifact.name for artifact in task.artifacts] == ["answer-0", "answer-1", "answer-2"]
    assert TaskEvent.objects.filter(task_id=task.id, kind="artifact").count() == 3


@pytest.mark.parametrize("said", ["log in", Message(parts=[Part(text="log in")]), ""])
def test_what_has_to_be_authorised_at_a_remote_is_asked_of_our_client(said: str | Message) -> None:
    """A2A 1.0, section 7.6.2: a chain of tasks that are AUTH_REQUIRED."""
    with pytest.raises(AuthRequired, match="log in" if said else "authorisation is required") as caught:
        settle(End(TaskState.TASK_STATE_AUTH_REQUIRED, said))
    assert caught.value.status == TaskStatus.AUTH_REQUIRED


@pytest.mark.parametrize("name", ["r-slow", "r-slow-polled"])
def test_a_cancel_of_ours_cancels_at_the_remote(system: OneProcess, tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    task_id = system.submit(name, str(there))
    wait_for(lambda: TaskEvent.objects.filter(task_id=task_id, kind="artifact").exists(), what="it began")
    system.cancel(task_id)
    wait_for(lambda: executors.notes(there) == ["began", "cancel", "interrupted"], what="it is cancelled there")
    assert jobs.cancel_remotes() == 0, "its handler has done it"
    wait_for(TaskAttempt.objects.filter(released_at__isnull=False).exists, what="its slot is free")


def state_there(task_id: str) -> str:
    """Of a task of the remote «talks»."""
    asked = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": task_id}}
    reply = httpx.post(f"{BASE}talks/", json=asked, headers={"A2A-Version": "1.0"})
    return str(reply.json()["result"]["status"]["state"])


def test_what_is_cancelled_while_it_waits_for_its_client_is_cancelled_at_the_remote_once(system: OneProcess) -> None:
    task_id = system.run("r-talks", "begin")["id"]
    assert jobs.cancel_remotes() == 0
    system.cancel(task_id)
    assert jobs.cancel_remotes() == 1
    left = Task.objects.get(id=task_id).checkpoints.get().data
    assert (left["cancel"]["outcome"], state_there(left["task_id"])) == ("cancelled", "TASK_STATE_CANCELED")
    assert jobs.cancel_remotes() == 0


def test_a_cancel_that_does_not_reach_the_remote_is_tried_again_for_a_while(
    system: OneProcess, there: Remotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = system.run("r-talks", "begin")["id"]
    there.kill()
    system.cancel(task_id)
    assert (jobs.cancel_remotes(), jobs.cancel_remotes()) == (1, 0)
    checkpoints = Task.objects.get(id=task_id).checkpoints
    assert checkpoints.get().data["cancel"]["error"] == "remote_unavailable"
    monkeypatch.setattr(leftovers, "AGAIN_S", 0.0)
    there.start()
    assert jobs.cancel_remotes() == 1
    assert checkpoints.get().data["cancel"]["outcome"] == "had ended", "a remote that was killed has lost it"
    assert jobs.cancel_remotes() == 0


def test_what_runs_too_long_is_cancelled_at_the_remote(system: OneProcess, tmp_path: Path) -> None:
    there = tmp_path / "there"
    task = system.ended(system.submit("r-slow", str(there), timeout_s=1))
    assert (task["status"], task["error"]["code"]) == ("failed", "timeout")
    assert executors.notes(there) == ["began", "cancel", "interrupted"]


@pytest.mark.parametrize("name", ["r-slow", "r-slow-polled"])
def test_what_a_remote_accepted_is_not_sent_again_though_its_answer_was_lost(
    system: OneProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nobody has said yet which of the remote's tasks it is: it is found by its context and by the message's id."""
    take = conversation._Turn._take

    def lose(turn: Any, response: Any) -> None:
        monkeypatch.setattr(conversation._Turn, "_take", take)
        raise A2AClientError("the answer was lost") from httpx.ReadError("the connection is gone")

    monkeypatch.setattr(conversation._Turn, "_take", lose)
    file = tmp_path / "there"
    task_id = system.submit(name, str(file))
    wait_for(lambda: TaskEvent.objects.filter(task_id=task_id, kind="artifact").exists(), what="it is followed")
    file.touch()
    task = system.ended(task_id)
    assert (task["status"], [attempt["outcome"] for attempt in task["attempts"]]) == (
        "completed",
        ["retried", "completed"],
    )
    assert executors.notes(file) == ["began"]


def test_a_remote_that_was_killed_and_lost_its_tasks_is_asked_anew(
    system: OneProcess, there: Remotes, tmp_path: Path
) -> None:
    file = tmp_path / "there"
    task_id = system.submit("r-slow", str(file))
    wait_for(lambda: TaskEvent.objects.filter(task_id=task_id, kind="artifact").exists(), what="it began")
    there.kill()
    tried = TaskAttempt.objects.filter(task_id=task_id, outcome=Outcome.RETRIED)
    wait_for(tried.exists, what="its loss is noticed")
    assert (tried[0].error or {})["code"] == "remote_unavailable"
    there.start()
    wait_for(lambda: executors.notes(file).count("began") == 2, what="it is asked anew")
    file.touch()
    assert system.ended(task_id)["status"] == "completed"


def test_a_remote_that_is_away_is_tried_again_while_attempts_are_left(system: OneProcess) -> None:
    task = system.run("r-nobody", "hi")
    message = "the remote agent cannot be reached"
    assert (task["status"], task["error"]) == ("failed", {"code": "remote_unavailable", "message": message})
    assert len(task["attempts"]) == 2


def test_a_remote_that_is_busy_is_asked_again_when_it_says(system: OneProcess) -> None:
    """429 and 503, with Retry-After."""
    task = system.run("r-busy", "hi")
    assert task["status"] == "completed"
    errors = [attempt["error"]["message"] for attempt in task["attempts"][:2]]
    assert errors == [f"the remote agent answered with the HTTP status {status}" for status in (429, 503)]


def test_credentials_come_from_the_environment_and_only_known_hosts_are_asked(
    system: OneProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def code_of(name: str) -> Any:
        error = system.run(name, "hi")["error"]
        return error and error["code"]

    assert code_of("r-guarded") == "remote_misconfigured"
    monkeypatch.setenv("TEST_REMOTE_TOKEN", TOKEN)
    assert code_of("r-guarded") is None
    assert code_of("r-stranger") == "remote_unauthorized"
    assert code_of("r-elsewhere") == "remote_misconfigured"
    assert code_of("r-elsewhere-secret") == "remote_misconfigured"
    assert code_of("r-elsewhere-known") is None
    assert code_of("r-moved") == "remote_refused"
    assert TOKEN not in caplog.text
    payloads = TaskEvent.objects.exclude(payload=None).values_list("payload", flat=True)
    assert all(TOKEN.encode() not in bytes(payload or b"") for payload in payloads)


def test_what_a_client_names_alike_is_not_one_conversation_at_the_remote(system: OneProcess) -> None:
    """The remote sees one caller: without care it would mix the contexts of different clients of ours."""
    message = {"parts": [{"text": "begin"}], "contextId": "ours"}
    task_id = system.submit("r-talks", message=message)
    system.ended(task_id)
    checkpoint = Task.objects.get(id=task_id).checkpoints.get().data
    assert UUID(checkpoint["context_id"]).version == 5
    assert checkpoint["accepted"] is True
