"""Clients of A2A 0.2 and 0.3 that are not ours, each in an environment of its own, against the running stack."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import CancelTaskRequest, GetTaskRequest, Message, Part, Role, SendMessageRequest, TaskState
from a2a.utils.errors import TaskNotCancelableError

from stack.paths import default_state_dir
from stack.scripts import read_procfile
from tests.live import Live, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]
CLIENTS = Path(__file__).parent.parent / "clients"
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a version's script with these arguments; what it saw. Its environment is made once for its lock file."""

    def ran(version: str, *arguments: str) -> dict[str, Any]:
        python = environment(CLIENTS / f"requirements-{version}.txt")
        script = CLIENTS / f"a2a_{version.replace('.', '_')}.py"
        done = subprocess.run([python, script, *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return ran


def environment(requirements: Path) -> Path:
    """The interpreter of an environment with exactly these packages."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    made = default_state_dir() / "clients" / f"{requirements.stem}-{digest}"
    python, ready = made / "bin" / "python", made / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", made], check=True)
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--require-hashes",
        ]
        subprocess.run([*pip, "-r", requirements], check=True)
        ready.touch()
    return python


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check(seen: dict[str, Any]) -> None:
    """What both versions see alike."""
    assert seen["blocking"] == ["completed", 1]
    assert seen["history"][0] == "user"
    assert seen["final"] == [False] * (len(seen["final"]) - 1) + [True]
    assert len(seen["final"]) >= 4  # working, the three steps or some of them at once, completed
    assert (seen["at once"], seen["cancelled"]) == ("submitted", "canceled")


@pytest.mark.parametrize("transport", ["JSONRPC", "HTTP+JSON"])
def test_a_client_of_0_3_completes_streams_cancels_and_follows_up(live: Live, run: Run, transport: str) -> None:
    seen = run("0.3", live.stack.url, transport)
    check(seen)
    assert (seen["ended"], seen["resubscribed"]) == ("completed", "canceled")
    assert (seen["asks"], seen["answered"]) == ("input-required", ["completed", 3])
    codes = {"JSONRPC": ("-32001", "-32002"), "HTTP+JSON": ("404", "400")}[transport]
    assert codes[0] in seen["missing"]
    assert codes[1] in seen["cancelled again"]


def test_a_client_of_0_3_does_so_over_grpc(live: Live, run: Run) -> None:
    port = free_port()
    serving = live.process(
        read_procfile(live.stack.procfile)["grpc"], A2A_GRPC_PORT=str(port), A2A_DEFAULT_AGENT="sleep"
    )
    with serving:
        wait_for(lambda: is_listening(port), what="gRPC is served")
        seen = run("0.3", live.stack.url, "GRPC", f"127.0.0.1:{port}")
    check(seen)
    assert "TaskNotFoundError: " in seen["missing"]
    assert "TaskNotCancelableError: " in seen["cancelled again"]


def test_a_client_of_0_2_does_too(live: Live, run: Run) -> None:
    seen = run("0.2", live.stack.url)
    check(seen)
    assert (seen["missing"], seen["cancelled again"]) == (-32001, -32002)
    assert (seen["asks"], seen["answered"]) == ("input-required", ["completed", 3])


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_a_client_of_1_0_speaks_0_3_where_a_card_offers_nothing_newer(live: Live, binding: str) -> None:
    """By the SDK's transports of 0.3, which it chooses by the card."""
    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, f"{live.stack.url}/a2a/echo").get_agent_card()
        old = [
            each
            for each in card.supported_interfaces
            if (each.protocol_version, each.protocol_binding) == ("0.3", binding)
        ]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(old)
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding])
        client = ClientFactory(config).create(card)
        message = Message(message_id=str(uuid4()), role=Role.ROLE_USER, parts=[Part(text="hello")])
        events = [event async for event in client.send_message(SendMessageRequest(message=message))]
        task_id = events[0].task.id
        assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
        task = await client.get_task(GetTaskRequest(id=task_id))
        assert [part.text for artifact in task.artifacts for part in artifact.parts] == ["hello"]
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(CancelTaskRequest(id=task_id))
