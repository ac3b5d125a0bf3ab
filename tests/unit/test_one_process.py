"""``workers.testing``: what an author of agents tests with."""

from __future__ import annotations

import threading

import pytest

from workers.testing import one_process


@pytest.mark.django_db(transaction=True)
def test_an_agent_of_either_lane_runs_end_to_end_in_one_process() -> None:
    before = threading.active_count()
    with one_process() as system:
        echoed = system.run("echo", "hello")
        slept = system.run("sleep-cpu", parameters={"seconds": 0}, priority="critical")
    assert (echoed["status"], slept["status"]) == ("completed", "completed")
    assert [artifact["name"] for artifact in echoed["artifacts"]] == ["echo"]
    assert threading.active_count() <= before
