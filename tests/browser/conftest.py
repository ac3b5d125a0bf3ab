"""Chromium, and a tab of it in the light and in the dark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Session
from playwright.sync_api import Browser, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from tasks_app import authentication
from tasks_app.models import Client
from tests.factory import Factory

CHROMIUM = Path(os.environ.get("A2A_CHROMIUM", "/usr/bin/chromium"))
QUIET = ("background-networking", "component-update", "sync", "gpu")
ARGS = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in QUIET)]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser. Playwright's own event loop lives in this thread, which Django would else take for misuse."""
    if not CHROMIUM.exists():
        pytest.fail(f"no Chromium at {CHROMIUM}: install it, or name it in A2A_CHROMIUM")
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def tab(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[Page]:
    """A tab of nobody yet; the test fails if it logs an error."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme=request.param)
    made = context.new_page()
    errors: list[str] = []
    made.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    made.on("pageerror", lambda error: errors.append(str(error)))
    yield made
    context.close()
    assert not errors


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


@pytest.fixture
def page(tab: Page, server: LiveServer) -> Page:
    """A tab of a signed-in operator."""
    tab.context.add_cookies([{"name": "sessionid", "value": _signed_in(), "url": server.url}])
    return tab


def keep(page: Page, request: pytest.FixtureRequest, name: str = "") -> None:
    """Saves the screenshot, where ``A2A_SCREENSHOT_DIR`` names a folder for it."""
    folder = os.environ.get("A2A_SCREENSHOT_DIR")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{request.node.name}{name and f'-{name}'}.png", full_page=True)


def _signed_in() -> str:
    session = Session()
    session.force_login(User.objects.create_superuser("operator"))
    return str(session.cookies["sessionid"].value)
