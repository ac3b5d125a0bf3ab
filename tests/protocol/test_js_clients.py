"""The clients of ``@a2a-js/sdk``, of A2A 1.0 and of 0.3, on a real Node against the running stack."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.environments import CLIENTS, node, node_modules, printed
from tests.live import Live

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]
JS = CLIENTS / "js"


def run(version: str, *arguments: str) -> dict[str, Any]:
    """What the script of this version's client saw."""
    # Node looks for packages from where the script is.
    script = shutil.copy(JS / f"a2a_{version.replace('.', '_')}.mjs", node_modules(JS))
    return printed(node(), Path(script), *arguments)


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
def test_the_client_of_1_0_completes_streams_cancels_and_follows_up(live: Live, binding: str) -> None:
    seen = run("1.0", live.stack.url, binding)
    assert seen["spoken"] == [binding, "1.0"]
    assert seen["blocking"] == ["TASK_STATE_COMPLETED", 1]
    assert seen["history"][0] == "ROLE_USER"
    assert seen["stream"][0] == "task"
    assert {"statusUpdate", "artifactUpdate"} == set(seen["stream"][1:])
    assert seen["states"][:2] == ["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"]
    assert seen["states"][-1] == "TASK_STATE_COMPLETED"
    assert (seen["at once"], seen["cancelled"]) == ("TASK_STATE_SUBMITTED", "TASK_STATE_CANCELED")
    assert seen["resubscribed"] == "TASK_STATE_CANCELED"
    assert "TaskNotFound" in seen["missing"]
    assert "TaskNotCancelable" in seen["cancelled again"]
    assert (seen["asks"], seen["answered"]) == ("TASK_STATE_INPUT_REQUIRED", ["TASK_STATE_COMPLETED", 3])


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
def test_the_client_of_0_3_does_so_too(live: Live, binding: str) -> None:
    seen = run("0.3", live.stack.url, binding)
    assert seen["blocking"] == ["completed", 1]
    assert seen["history"][0] == "user"
    assert seen["stream"][0] == "task"
    assert {"status-update", "artifact-update"} == set(seen["stream"][1:])
    assert seen["final"] == [False] * (len(seen["final"]) - 1) + [True]
    assert (seen["ended"], seen["resubscribed"]) == ("completed", "canceled")
    assert (seen["at once"], seen["cancelled"]) == ("submitted", "canceled")
    assert "TaskNotFound" in seen["missing"]
    assert "TaskNotCancelable" in seen["cancelled again"]
    assert (seen["asks"], seen["answered"]) == ("input-required", ["completed", 3])
