"""What the README tells a newcomer to type works as it stands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tasks_app import agents
from tests.live import Live

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shell(live: Live, word: str) -> str:
    """The first commands with this word in them, to the running stack."""
    return next(block for block in blocks("sh") if word in block).replace("http://127.0.0.1:8000", live.stack.url)


def bash(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.services
def test_the_request_that_streams_streams(live: Live) -> None:
    output = bash(shell(live, "SendStreamingMessage"))
    events = [line for line in output.splitlines() if line.startswith("data:")]
    assert "TASK_STATE_SUBMITTED" in events[0]
    assert "TASK_STATE_COMPLETED" in events[-1]
    assert "slept 3 s" in output


@pytest.mark.services
def test_the_same_over_rest(live: Live) -> None:
    block = shell(live, "/api/v1/tasks/")
    submit, follow = block.split("curl -N", 1)
    task_id = re.findall(r'"id":"([0-9a-f-]{36})"', bash(submit))[0]
    assert '"status":"completed"' in bash("curl -N" + follow.replace("<id>", task_id))


@pytest.mark.services
def test_what_a_task_has_made(live: Live) -> None:
    (artifact,) = live.ended(live.submit("echo", "hello, artifact"))["artifacts"]
    block = shell(live, "/api/v1/artifacts/")
    content, address = block.replace("<artifact>", artifact["id"]).strip().splitlines()
    assert bash(content) == "hello, artifact"
    assert bash(f"curl '{json.loads(bash(address))['url']}'") == "hello, artifact"


@pytest.mark.services
def test_a_file_goes_by_itself(live: Live, tmp_path: Path) -> None:
    shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "scan.dcm")
    block = shell(live, "/api/v1/files/")
    send, name = block.split("curl http", 1)
    file_id = json.loads(bash(f"cd {tmp_path}; {send}"))["id"]
    task_id = json.loads(bash("curl http" + name.replace("<file>", file_id)))["id"]
    assert {each["name"] for each in live.ended(task_id)["artifacts"]} == {"preview-0", "report"}


@pytest.mark.services
def test_many_at_once(live: Live) -> None:
    block = shell(live, "/api/v1/batches/")
    submit, follow = block.split("curl -N", 1)
    batch_id = re.findall(r'"id":"([0-9a-f-]{36})"', bash(submit))[0]
    assert '"completed":2' in bash("curl -N" + follow.replace("<id>", batch_id))


@pytest.mark.services
def test_again_and_again(live: Live) -> None:
    block = shell(live, "/api/v1/schedules/")
    make, run = block.split("curl -X", 1)
    schedule_id = re.findall(r'"id":"([0-9a-f-]{36})"', bash(make))[0]
    assert '"outcome":"started"' in bash("curl -X" + run.replace("<id>", schedule_id))
    live.http.delete(f"/api/v1/schedules/{schedule_id}/")


def test_the_agent_of_the_readme_is_one() -> None:
    scope: dict[str, object] = {"__name__": "readme"}
    exec(blocks("python")[0], scope)  # noqa: S102 (our own README)
    assert agents.get("shout").lane == "io"
    agents._registry.pop("shout")
