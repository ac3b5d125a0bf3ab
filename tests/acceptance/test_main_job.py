"""The main job through the running stack: images in, by priority, reports and previews out (README)."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from tests.live import Live, wait_for

pytestmark = pytest.mark.services


def image_task(live: Live, name: str, media_type: str = "application/dicom", **fields: Any) -> str:
    path = get_testdata_file(name, download=False)
    with open(str(path), "rb") as file:  # noqa: PTH123 (pydicom gives a string)
        raw = base64.b64encode(file.read()).decode()
    body = {"agent": "imaging", "message": {"parts": [{"raw": raw, "mediaType": media_type}]}, **fields}
    reply = live.http.post("/api/v1/tasks/", json=body)
    assert reply.status_code == 201, reply.text
    assert reply.headers["Location"] == f"/api/v1/tasks/{reply.json()['id']}/"
    return str(reply.json()["id"])


def test_a_ct_slice_becomes_a_report_and_a_preview_that_shows_the_anatomy(live: Live) -> None:
    task = live.ended(image_task(live, "CT_small.dcm"))
    assert (task["status"], task["progress"], task["error"]) == ("completed", 1.0, None)
    by_type = {artifact["type"]: artifact for artifact in task["artifacts"]}
    report = json.loads(live.http.get(by_type["application/json"]["content_url"]).content)
    image = report["images"][0]
    assert (image["modality"], image["rows"], image["columns"]) == ("CT", 128, 128)
    reply = live.http.get(by_type["image/png"]["content_url"])
    assert (reply.headers["content-type"], reply.headers["x-content-type-options"]) == ("image/png", "nosniff")
    assert len(reply.content) == by_type["image/png"]["size_bytes"]
    pixels = np.asarray(Image.open(io.BytesIO(reply.content)).convert("L"), dtype=float)
    assert pixels.shape == (128, 128)
    assert pixels.std() > 20
    assert np.mean(pixels >= 255) < 0.05
    assert np.mean((pixels > 10) & (pixels < 245)) > 0.3


def test_the_events_of_a_task_stream_in_order_and_resume_where_the_client_left(live: Live) -> None:
    task_id = image_task(live, "MR_small.dcm")
    assert live.ended(task_id)["status"] == "completed"

    def events(**headers: str) -> list[tuple[int, str]]:
        with live.http.stream("GET", f"/api/v1/tasks/{task_id}/events/", headers=headers) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in reply.iter_lines() if line.startswith("data:")]
        data = [json.loads(line.removeprefix("data:")) for line in lines]
        return [(event["generation"], event["kind"]) for event in data]

    every = events()
    assert [number for number, _ in every] == list(range(1, len(every) + 1))
    assert [kind for _, kind in every].count("artifact") == 2
    assert [kind for _, kind in every].count("progress") >= 1  # what is said again within 0.1 s is said once
    assert events(**{"Last-Event-ID": "3"}) == every[3:]


def test_a_broken_image_fails_its_own_task_readably_and_the_rest_go_on(live: Live) -> None:
    broken = live.http.post(
        "/api/v1/tasks/",
        json={
            "agent": "imaging",
            "message": {"parts": [{"raw": base64.b64encode(b"no image").decode(), "mediaType": "image/png"}]},
        },
    ).json()["id"]
    good = image_task(live, "CT_small.dcm")
    task = live.ended(broken)
    assert (task["status"], task["error"]["code"]) == ("failed", "not_an_image")
    assert task["error"]["message"].startswith("parts[0]: ")
    assert task["attempt"] == 1
    assert live.ended(good)["status"] == "completed"


def test_urgent_tasks_start_before_those_that_were_sent_earlier(live: Live) -> None:
    release_at = live.sql("SELECT now() + interval '3 seconds'")[0][0].isoformat()
    ids = {
        priority: [
            live.submit("sleep-cpu", priority=priority, run_after=release_at, parameters={"seconds": 0.05, "steps": 1})
            for _ in range(8)
        ]
        for priority in ("low", "normal", "high", "critical")
    }
    tasks = [live.ended(task_id) for own in ids.values() for task_id in own]
    assert {task["status"] for task in tasks} == {"completed"}
    started = sorted(tasks, key=lambda task: str(task["started_at"]))
    order = [task["priority"] for task in started]
    # A worker takes turns among its queues, so what is in the broker at one time (slots and lookahead) may mix.
    assert set(order[:6]) == {"critical"}
    assert set(order[-6:]) == {"low"}
    assert order.index("low") > order.index("normal") > order.index("high") > order.index("critical")


def test_a_task_waits_for_its_time(live: Live) -> None:
    run_after = live.sql("SELECT now() + interval '2 seconds'")[0][0]
    task = live.ended(live.submit("echo", run_after=run_after.isoformat()))
    assert task["started_at"] >= run_after.isoformat()[:19]


def test_jobs_carry_the_tasks_id_and_status_follows_the_signals(live: Live) -> None:
    task_id = live.submit("sleep-cpu", parameters={"seconds": 0.2})
    assert live.ended(task_id)["status"] == "completed"
    log = wait_for(lambda: live.stack.log("worker-cpu"))
    assert f"a2a.run_cpu[{task_id}:0]" in log
    outcome = live.sql("SELECT worker, outcome FROM tasks_app_taskattempt WHERE task_id = %s", task_id)
    assert [(row[0].split("-")[0], row[1]) for row in outcome] == [("cpu", "completed")]
