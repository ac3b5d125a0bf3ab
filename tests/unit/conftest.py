"""Fixtures of the tests of the admin: who looks at it, and what it rings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client as Browser

from tasks_app import wakeups

Get = Callable[..., str]


@pytest.fixture
def plain_static(settings: Any) -> None:
    """Pages name their static files without ``collectstatic`` having run."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[wakeups.Ring]:
    """What was rung."""
    rung: list[wakeups.Ring] = []
    monkeypatch.setattr(wakeups.bell, "ring", rung.extend)
    return rung


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_superuser("operator")


@pytest.fixture
def browser(operator: User, plain_static: None) -> Browser:
    made = Browser()
    made.force_login(operator)
    return made


@pytest.fixture
def get(browser: Browser) -> Get:
    """The text of a page, which must be there."""

    def text(url: str, **params: str) -> str:
        answer = browser.get(url, params)
        assert answer.status_code == 200, answer
        return str(answer.content.decode())

    return text


@pytest.fixture
def viewer(db: None, plain_static: None) -> Iterator[Browser]:
    """One who may see tasks, and no more."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_task"))
    made = Browser()
    made.force_login(user)
    return iter([made])


@pytest.fixture
def watcher(db: None, plain_static: None) -> Browser:
    """One who may see queues, breakers and clients, and no more."""
    user = User.objects.create_user("watcher", is_staff=True)
    names = ["view_queuecontrol", "view_breaker", "view_client"]
    user.user_permissions.add(*Permission.objects.filter(codename__in=names))
    made = Browser()
    made.force_login(user)
    return made


def shown_ids(html: str) -> set[UUID]:
    """The tasks in a list."""
    return {UUID(text) for text in re.findall(r'class="a2a-id[^"]*" title="([0-9a-f-]{36})"', html)}


def hidden_fields(html: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))
