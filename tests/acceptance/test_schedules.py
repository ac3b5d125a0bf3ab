"""A schedule in the running stack, with two beats, of which one's clock is an hour ahead."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live, wait_for

pytestmark = pytest.mark.services
#: Celery's beat, whose clock is an hour ahead.
AHEAD = """
import sys, time
real = time.time
time.time = lambda: real() + 3600
import datetime as module
class Ahead(module.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + module.timedelta(hours=1)
module.datetime = Ahead
from celery.__main__ import main
sys.argv = ["celery", "--skip-checks", "-A", "a2a_project", "beat", "-l", "INFO", "-s", sys.argv[1]]
main()
"""
COMMAND = f"exec python -c {shlex.quote(AHEAD)} {{state}} > {{log}} 2>&1"
COUNT = 4


def test_each_instant_is_fired_once_by_two_beats_whatever_their_clocks_say(live: Live, tmp_path: Path) -> None:
    body = {"name": "often", "every_s": 2, "task": {"agent": "echo", "message": {"parts": [{"text": "again"}]}}}
    log = tmp_path / "ahead.log"
    with live.process(f"sh -c {shlex.quote(COMMAND.format(log=log, state=tmp_path / 'state'))}"):
        schedule = live.http.post("/api/v1/schedules/", json={**body, "catch_up": "all"}).json()
        path = f"/api/v1/schedules/{schedule['id']}/"
        fires = wait_for(lambda: _fires(live, path), what="it has fired")
        wait_for(lambda: "a2a.fire" in log.read_text(), what="the one that is ahead triggers it as well")
        live.http.post(f"{path}pause/")
    at = [datetime.fromisoformat(fire["at"]) for fire in fires]
    assert {later - earlier for earlier, later in pairwise(at)} == {timedelta(seconds=2)}
    assert f"{at[0]:%H:%M:%S}" == schedule["next_fires"][0][11:19]
    for fire, instant in zip(fires, at, strict=True):
        assert fire["outcome"] == "started"
        late = datetime.fromisoformat(fire["created_at"]) - instant
        assert timedelta(0) <= late < timedelta(seconds=30)
        assert live.ended(fire["task_id"])["status"] == "completed"
    assert len({fire["task_id"] for fire in fires}) == len(fires)


def _fires(live: Live, path: str) -> list[dict[str, Any]] | None:
    """The fires, the first first, once there are some."""
    found: list[dict[str, Any]] = live.http.get(f"{path}fires/").json()["results"]
    return sorted(found, key=lambda fire: str(fire["at"])) if len(found) >= COUNT else None
