"""The page of a task as a person's browser shows it: the preview is drawn, nothing fails, and it stays up to date."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from a2a.types import Artifact, Message, Part, Role, TaskArtifactUpdateEvent
from django.contrib.auth.models import User
from django.test import Client as Session
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from examples.imaging.inputs import data_folder
from tasks_app import authentication
from tasks_app.engine import ArtifactRecord, Chunk, Note
from tasks_app.models import Client, Task
from tasks_app.status import Lane
from tests.factory import Factory, completed
from workers.agents.imaging.pipeline import Options, examine

pytestmark = [pytest.mark.browser, pytest.mark.services]

CHROMIUM = Path(os.environ.get("A2A_CHROMIUM", "/usr/bin/chromium"))
QUIET = ("background-networking", "component-update", "sync", "gpu")
ARGS = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in QUIET)]
STUDY = "test_files/CT_small.dcm"
EVIL = "<script>document.title = 'owned'</script>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. Playwright's own event loop lives in this thread, which Django would else take for misuse."""
    if not CHROMIUM.exists():
        pytest.fail(f"no Chromium at {CHROMIUM}: install it, or name it in A2A_CHROMIUM")
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def server(live_server: LiveServer, settings: Any) -> LiveServer:
    """Django with its static files, in a thread; the tasks are moved on by the engine's verbs."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
    authentication.forget()
    return live_server


@pytest.fixture
def tasks(server: LiveServer) -> Factory:
    return Factory(Client.objects.get_or_create(name="owner")[0])


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, server: LiveServer, chromium: Browser) -> Iterator[Page]:
    """A tab of a signed-in operator; the test fails if it logs an error."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme=request.param)
    context.add_cookies([{"name": "sessionid", "value": _signed_in(), "url": server.url}])
    tab = context.new_page()
    errors: list[str] = []
    tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    context.close()
    assert not errors


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
    _keep(page, request)


def test_a_running_task_stays_up_to_date(page: Page, server: LiveServer, tasks: Factory) -> None:
    claim = tasks.claimed(agent="imaging", lane=Lane.CPU)
    page.goto(server.url + reverse("admin:tasks_app_task_change", args=[claim.task_id]))
    expect(page.locator(".a2a-title .a2a-label").first).to_have_text("running")
    tasks.write(claim, Note(progress=0.42))
    expect(page.locator(".a2a-big b")).to_have_text("42%", timeout=10_000)
    tasks.write(claim, finish=completed())
    expect(page.locator(".a2a-title .a2a-label").first).to_have_text("completed", timeout=10_000)


def test_a_task_is_cancelled_from_the_list(
    page: Page, server: LiveServer, tasks: Factory, request: pytest.FixtureRequest
) -> None:
    waiting, ended = tasks.pending(), tasks.finished()
    page.goto(server.url + reverse("admin:tasks_app_task_changelist"))
    _keep(page, request)
    for task_id in (waiting, ended):
        page.locator(f'input[name="_selected_action"][value="{task_id}"]').check()
    page.locator('select[name="action"]').select_option("cancel_selected")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("1 task of the selection has ended already")).to_be_visible()
    page.get_by_role("button", name="Cancel 1 task").click()
    expect(page.get_by_text("Cancelled 1 task. 1 task had ended already.")).to_be_visible()
    assert Task.objects.get(id=waiting).status == "cancelled"


def _signed_in() -> str:
    session = Session()
    session.force_login(User.objects.create_superuser("operator"))
    return str(session.cookies["sessionid"].value)


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


def _keep(page: Page, request: pytest.FixtureRequest) -> None:
    """Saves the screenshot, where ``A2A_SCREENSHOT_DIR`` names a folder for it."""
    folder = os.environ.get("A2A_SCREENSHOT_DIR")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{request.node.name}.png", full_page=True)
