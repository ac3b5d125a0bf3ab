"""A batch through the running stack: from the command line with a bar, followed on one stream, told to a webhook."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from examples.imaging.inputs import studies
from tests.live import Live, wait_for
from tests.receivers import receiver

pytestmark = pytest.mark.services
COUNT, URGENT = 60, 6
SMALL_BYTES = 60_000


def written(folder: Path, url: str) -> Path:
    """Images as a file of tasks, the urgent ones last."""
    small = [study for study in studies() if study.decodes and study.path.stat().st_size < SMALL_BYTES]
    head = {"name": "night shift", "defaults": {"agent": "imaging", "priority": "low"}, "callback": {"url": url}}
    path = folder / "images.ndjson"
    with path.open("w") as file:
        print(json.dumps({"batch": head}), file=file)
        for number in range(COUNT):
            study = small[number % len(small)]
            raw = base64.b64encode(study.path.read_bytes()).decode()
            task: dict[str, Any] = {"message": {"parts": [{"raw": raw, "mediaType": study.media_type}]}}
            print(json.dumps(task | ({"priority": "critical"} if number >= COUNT - URGENT else {})), file=file)
    return path


def test_images_go_from_the_command_line_to_a_webhook_the_urgent_ones_first(live: Live, tmp_path: Path) -> None:
    live.submit("echo")  # makes the client, where it is the first to ask
    secret = live.manage("a2a", "webhook-secret", "local").split()[0]
    with receiver() as hook:
        said = live.manage("a2a", "batch", str(written(tmp_path, hook.url)), "--key", "night").splitlines()
        batch_id = said[0].split()[1].rstrip(":")
        assert said[0] == f"batch {batch_id}: {COUNT} of {COUNT} tasks accepted"
        assert any(f"{COUNT}/{COUNT}" in line for line in said), said
        assert said[-1] == f"{COUNT} completed"
        wait_for(lambda: hook.requests, what="the webhook is told")
    (request,) = hook.requests
    told = Webhook(secret).verify(request.body, request.headers)
    assert (told["type"], told["data"]["id"], told["data"]["counts"]) == (
        "batch.completed",
        batch_id,
        {"completed": COUNT},
    )
    batch = live.http.get(f"/api/v1/batches/{batch_id}/").json()
    assert (batch["progress"], batch["completed_at"], batch["name"]) == (
        1.0,
        told["data"]["completed_at"],
        "night shift",
    )
    rows = live.sql("SELECT priority, started_at FROM tasks_app_task WHERE batch_id = %s ORDER BY started_at", batch_id)
    places = [place for place, (priority, _) in enumerate(rows) if priority == 0]
    assert len(places) == URGENT
    assert max(places) < COUNT // 2, "they were sent last"
    again = live.manage("a2a", "batch", str(written(tmp_path, hook.url)), "--key", "night", "--no-wait")
    assert again.split()[1].rstrip(":") == batch_id


def test_one_stream_tells_of_all_and_a_rerun_of_what_failed_is_part_of_it(live: Live) -> None:
    tasks = [{"agent": "echo", "message": {"parts": [{"text": str(number)}]}} for number in range(20)]
    tasks += [{"agent": "imaging", "message": {"parts": [{"raw": "AAAA", "mediaType": "image/png"}]}}]
    batch_id = live.http.post("/api/v1/batches/", json={"tasks": tasks}).json()["id"]
    path = f"/api/v1/batches/{batch_id}/events/"
    whole = _followed(live, path)
    assert whole["counts"] | {"completed": 20, "failed": 1} == whole["counts"]
    wait_for(lambda: live.http.get(f"/api/v1/batches/{batch_id}/").json()["completed_at"], what="it is completed")
    reply = live.http.post(f"/api/v1/batches/{batch_id}/rerun/")
    assert (reply.status_code, reply.json()["counts"]["failed"]) == (200, 0)
    assert _followed(live, path)["counts"] == whole["counts"]
    ((reruns,),) = live.sql(
        "SELECT count(*) FROM tasks_app_task WHERE batch_id = %s AND rerun_of_id IS NOT NULL", batch_id
    )
    assert reruns == 1


def _followed(live: Live, path: str) -> dict[str, Any]:
    """What the last event of the stream says of the whole."""
    with live.http.stream("GET", path) as reply:
        data = [json.loads(line.removeprefix("data: ")) for line in reply.iter_lines() if line.startswith("data: ")]
    last: dict[str, Any] = data[-1]
    assert last["ended"]
    return last


def test_a_chain_runs_one_after_another_and_ends_where_one_fails(live: Live) -> None:
    def echo(text: str, *places: int) -> dict[str, Any]:
        return {"agent": "echo", "message": {"parts": [{"text": text}]}, "depends_on": list(places)}

    bad = {"agent": "imaging", "message": {"parts": [{"raw": "AAAA", "mediaType": "image/png"}]}}
    tasks = [echo("a"), echo("b", 0), echo("c", 0, 1), bad, echo("d", 2, 3), echo("e", 4)]
    batch_id = live.http.post("/api/v1/batches/", json={"tasks": tasks}).json()["id"]
    whole = _followed(live, f"/api/v1/batches/{batch_id}/events/")
    assert {name: count for name, count in whole["counts"].items() if count} == {"completed": 3, "failed": 3}
    ends = "SELECT started_at, completed_at, error ->> 'code' FROM tasks_app_task WHERE batch_id = %s"
    rows = live.sql(f"{ends} ORDER BY batch_index", batch_id)
    assert rows[0][1] <= rows[1][0]
    assert rows[1][1] <= rows[2][0]
    assert [row[2] for row in rows[4:]] == ["dependency_failed"] * 2
    assert (rows[2][1] - rows[0][0]).total_seconds() < 5
