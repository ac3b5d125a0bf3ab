"""What an operator does in a browser, on a stack that runs: the work obeys."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import keep
from tests.live import Live

pytestmark = [pytest.mark.browser, pytest.mark.services]

SOON_MS = 15_000
NAME, PASSWORD = "operator", "only-for-this-test"


@pytest.fixture
def page(tab: Page, live: Live) -> Page:
    """A tab of an operator who has signed in by the form."""
    env = {**os.environ, **live.stack.env, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    subprocess.run([sys.executable, "manage.py", "ensure_admin", NAME], cwd=live.stack.root, env=env, check=True)
    tab.goto(f"{live.stack.url}/admin/")
    tab.locator('input[name="username"]').fill(NAME)
    tab.locator('input[name="password"]').fill(PASSWORD)
    tab.locator('button[type="submit"], input[type="submit"]').first.click()
    expect(tab.get_by_role("link", name="Queues")).to_be_visible()
    return tab


def test_an_agent_is_paused_its_task_waits_with_the_reason_and_completes_once_resumed(
    page: Page, live: Live, request: pytest.FixtureRequest
) -> None:
    page.get_by_role("link", name="Queues").click()
    row(page, "echo").get_by_role("link", name="pause").click()
    expect(page.get_by_text("What runs is finished.")).to_be_visible()
    keep(page, request, "asked")
    page.get_by_role("button", name="Pause agent echo").click()
    expect(page.get_by_text("Paused agent echo.")).to_be_visible()
    task_id = live.submit("echo")
    expect(page.locator('[data-live="agent-echo-waiting"]')).to_have_text(re.compile(r"\s*1\s*"), timeout=SOON_MS)
    keep(page, request, "queues")
    page.goto(f"{live.stack.url}/admin/tasks_app/task/{task_id}/change/")
    expect(page.locator(".a2a-latest")).to_have_text("waits: an operator paused agent echo")
    keep(page, request, "waits")
    page.get_by_role("link", name="Queues").click()
    row(page, "echo").get_by_role("link", name="resume").click()
    page.get_by_role("button", name="Resume agent echo").click()
    expect(page.get_by_text("Resumed agent echo.")).to_be_visible()
    page.goto(f"{live.stack.url}/admin/tasks_app/task/{task_id}/change/")
    expect(page.locator(".a2a-title .a2a-label").first).to_have_text("completed", timeout=SOON_MS)


def test_a_dead_letter_runs_again_as_a_new_task(page: Page, live: Live, request: pytest.FixtureRequest) -> None:
    failed = live.submit("raises", "ValueError")
    assert live.ended(failed)["status"] == "failed"
    page.get_by_role("link", name="Dead letters").click()
    letter = page.locator("tr", has=page.locator(f'[title="{failed}"]'))
    expect(letter.get_by_text("handler_error")).to_be_visible()
    letter.locator("summary").click()
    expect(letter.get_by_text("ValueError: a value")).to_be_visible()
    keep(page, request, "list")
    letter.locator('input[name="_selected_action"]').check()
    page.locator('select[name="action"]').select_option("rerun_selected")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Run 1 task again?")).to_be_visible()
    keep(page, request, "asked")
    page.get_by_role("button", name="Run 1 task again").click()
    expect(page.get_by_text("Made 1 new task")).to_be_visible()
    expect(page.get_by_role("link", name=failed)).to_be_visible()
    expect(page.locator(".a2a-title .a2a-label").first).to_have_text("failed", timeout=2 * SOON_MS)
    keep(page, request, "task")


def row(page: Page, name: str) -> Locator:
    """The line of an agent on the page of queues."""
    return page.locator("tr", has=page.get_by_role("link", name=name, exact=True))
