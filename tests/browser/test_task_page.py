"""The page of a task as a person's browser shows it: the preview is drawn, nothing fails, and it stays up to date."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from a2a.types import Artifact, Message, Part, Role, TaskArtifactUpdateEvent
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from examples.imaging.inputs import data_folder
from tasks_app.engine import ArtifactRecord, Chunk, Note
from tasks_app.models import Task
from tasks_app.status import Lane
from tests.browser.conftest import keep
from tests.factory import Factory, completed
from workers.agents.imaging.pipeline import Options, examine

pytestmark = [pytest.mark.browser, pytest.mark.services]

STUDY = "test_files/CT_small.dcm"
EVIL = "<script>document.title = 'owned'</script>"


def test_shows_a_finished_task_with_its_preview(
    page: Page, server: LiveServer, tasks: Factory, request: pytest.FixtureRequest
) -> None:
    task_id = _examined(tasks)
    page.goto(server.url + reverse("admin:tasks_app_task_change", args=[task_id]))
    page.wait_for_load_state("networkidle")
    preview = page.locator(".a2a-image img")
    assert preview.evaluate("image => image.complete && image.naturalWidth") == 128
    assert page.locator(".a2a-title .a2a-label").first.inner_text() == "completed"
    assert page.locator(".a2a-title h2").inner_text() == "imaging"
    assert page.locator(".a2a-timeline li").count() == Task.objects.get(id=task_id).generation
    assert (page.locator(".a2a-box.a2a-now").text_content() or "").strip() == "completed"
    assert '"image_count": 1' in page.locator(".a2a-artifact .a2a-code").inner_text()
    expect(page.get_by_text(EVIL)).to_be_visible()
    assert page.title() == "imaging | A2A task manager"
    keep(page, request)


def test_a_running_task_stays_up_to_date(page: Page, server: LiveServer, tasks: Factory) -> None:
    claim = tasks.claimed(agent="imaging", lane=Lane.CPU)
    page.goto(server.url + reverse("admin:tasks_app_task_change", args=[claim.task_id]))
    expect(page.locator(".a2a-title .a2a-label").first).to_have_text("running")
    expect(page.get_by_role("link", name="Cancel")).to_be_visible()
    tasks.write(claim, Note(progress=0.42))
    expect(page.locator(".a2a-big b")).to_have_text("42%", timeout=10_000)
    tasks.write(claim, finish=completed())
    expect(page.locator(".a2a-title .a2a-label").first).to_have_text("completed", timeout=10_000)
    expect(page.get_by_role("link", name="Run again")).to_be_visible()
    expect(page.get_by_role("link", name="Cancel")).to_have_count(0)


def test_a_task_is_cancelled_from_the_list(
    page: Page, server: LiveServer, tasks: Factory, request: pytest.FixtureRequest
) -> None:
    waiting, ended = tasks.pending(), tasks.finished()
    page.goto(server.url + reverse("admin:tasks_app_task_changelist"))
    keep(page, request)
    for task_id in (waiting, ended):
        page.locator(f'input[name="_selected_action"][value="{task_id}"]').check()
    page.locator('select[name="action"]').select_option("cancel_selected")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("1 task of the selection has ended already")).to_be_visible()
    page.get_by_role("button", name="Cancel 1 task").click()
    expect(page.get_by_text("Cancelled 1 task. 1 task had ended already.")).to_be_visible()
    assert Task.objects.get(id=waiting).status == "cancelled"


def _examined(tasks: Factory) -> UUID:
    """A task that the imaging pipeline really worked on."""
    data = (data_folder() / STUDY).read_bytes()
    parts = [Part(text=EVIL), Part(raw=data, media_type="application/dicom", filename="CT_small.dcm")]
    asked = Message(message_id="asked", role=Role.ROLE_USER, parts=parts).SerializeToString(deterministic=True)
    claim = tasks.claimed(agent="imaging", lane=Lane.CPU, message=asked, message_id="asked")
    notes: list[Note] = []
    finding = examine(data, Options(), lambda done, step: notes.append(Note(progress=done, message=_said(step))))
    png = Chunk(kind="raw", content=finding.png, media_type="image/png", filename="preview-0.png")
    report = Chunk(
        kind="data",
        content=json.dumps({"image_count": 1, "images": [finding.report]}).encode(),
        media_type="application/json",
    )
    records = (*notes, _artifact("preview-0", png), _artifact("report", report))
    assert tasks.write(claim, *records, finish=completed()).accepted
    return claim.task_id


def _artifact(name: str, chunk: Chunk) -> ArtifactRecord:
    event = TaskArtifactUpdateEvent(artifact=Artifact(artifact_id=name, name=name))
    return ArtifactRecord(artifact_id=name, name=name, chunks=(chunk,), event=event.SerializeToString())


def _said(text: str) -> bytes:
    return bytes(Message(role=Role.ROLE_AGENT, parts=[Part(text=text)]).SerializeToString())
