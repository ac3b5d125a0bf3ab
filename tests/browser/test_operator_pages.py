"""The operator's pages as a browser draws them, in the light and in the dark: nothing fails, everything is there."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from tasks_app import agents, control
from tasks_app.control import Scope
from tasks_app.engine import CheckpointRecord, Finish, Note, Usage
from tasks_app.models import Breaker, Client, Outcome, Worker
from tasks_app.status import Lane, TaskStatus
from tests.browser.conftest import keep
from tests.factory import Factory

pytestmark = [pytest.mark.browser, pytest.mark.services]

RETRIED = Finish(
    status=TaskStatus.PENDING,
    outcome=Outcome.OUT_OF_MEMORY,
    error={"code": "out_of_memory", "message": "it had more than 512 MiB"},
    traceback="Traceback (most recent call last):\n  MemoryError",
    usage=Usage(peak_rss_bytes=571_000_000, cpu_s=12.4, disk_bytes=31_000_000),
)


def test_every_page_is_drawn(page: Page, server: LiveServer, tasks: Factory, request: pytest.FixtureRequest) -> None:
    _worker("worker-1", Lane.CPU)
    _worker("worker-2", Lane.IO)
    claim = tasks.claimed(agent="imaging", lane=Lane.CPU)
    tasks.write(claim, CheckpointRecord(name="slices", data=json.dumps({"done": list(range(12))})), finish=RETRIED)
    tasks.admitted(agent="sleep")
    running = tasks.claim(claim.task_id)
    tasks.write(running, Note(progress=0.4), CheckpointRecord(name="header", data='{"modality": "CT"}'))
    for _ in range(3):
        tasks.pending()
    later = tasks.pending(run_after=timezone.now() + timedelta(hours=3))
    control.pause(Scope.LANE, "io")
    control.limit(Scope.AGENT, "echo", max_running=8, dispatch_rate_per_s=2.5)
    control.pause(Scope.CLIENT, tasks.owner.name)
    Client.objects.create(name="hospital", max_running=4, max_queued=1000, submit_rate_per_s=12.5)
    _breaker("imaging", "open", "5 attempts failed within 60 s")
    _breaker("echo", "closed", "")
    addresses = {
        "queues": reverse("admin:tasks_app_queuecontrol_changelist"),
        "limits": reverse("admin:tasks_app_queuecontrol_limits", args=["agent", "echo"]),
        "breakers": reverse("admin:tasks_app_breaker_changelist"),
        "breaker": reverse("admin:tasks_app_breaker_change", args=["imaging"]),
        "clients": reverse("admin:tasks_app_client_changelist"),
        "client": reverse("admin:tasks_app_client_change", args=[tasks.owner.pk]),
        "workers": reverse("admin:tasks_app_worker_changelist"),
        "worker": reverse("admin:tasks_app_worker_change", args=["worker-1"]),
        "task": reverse("admin:tasks_app_task_change", args=[claim.task_id]),
        "priority": reverse("admin:tasks_app_task_priority_task", args=[later]),
        "later": reverse("admin:tasks_app_task_later_task", args=[later]),
    }
    for name, address in addresses.items():
        answer = page.goto(server.url + address)
        assert answer is not None
        assert answer.status == 200, name
        keep(page, request, name)
    page.get_by_label("Not before, in UTC").fill("2031-02-03T04:05")
    page.get_by_role("button", name="Run 1 task later").click()
    expect(page.get_by_text("its time is 2031-02-03 04:05:00 UTC")).to_be_visible()
    expect(page.get_by_role("link", name="Run now")).to_be_visible()


def _worker(name: str, lane: Lane) -> None:
    now = timezone.now()
    names = sorted(name for name, spec in agents.registered().items() if spec.lane == lane)
    Worker.objects.create(
        name=name,
        lane=lane,
        hostname="node-7",
        pid=4711,
        slots=4,
        agents=names,
        memory_mb=16_384,
        cores=8,
        disk_mb=200_000,
        started_at=now,
        heartbeat_at=now,
    )


def _breaker(agent: str, state: str, reason: str) -> None:
    now = timezone.now()
    Breaker.objects.create(
        agent=agent,
        state=state,
        changed_at=now - timedelta(minutes=2),
        retry_at=now + timedelta(seconds=28) if state == "open" else None,
        reason=reason,
    )
