"""Each test once for every storage, and once more sealed where the application seals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from pytest_django import Settings

from artifacts_app.storage.options import storages
from tests.protocol.conftest import doors, local  # noqa: F401 (fixtures)
from tests.s3 import FakeS3, fake_s3


@pytest.fixture(autouse=True)
def _no_connection_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that wait for storages would keep the tests' database from being dropped."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[FakeS3]:
    with fake_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: FakeS3, monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    """An empty bucket, and the environment that leads boto3 to it."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    # Two connections that fail are enough to know that it is down.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    s3_server.empty()
    return s3_server


def use(settings: Settings, *places: str) -> None:
    """Has contents stand there from now on."""
    settings.A2A_ARTIFACT_STORAGE = list(places)
    settings.STORAGES = {**settings.STORAGES, **storages(places, encryption=settings.A2A_S3_ENCRYPTION)}


@pytest.fixture(params=["database", "filesystem", "s3", "database, sealed", "filesystem, sealed"])
def storage(request: Any, settings: Settings, tmp_path: Path) -> str:
    """Where contents stand: the place, as A2A_ARTIFACT_STORAGE names it."""
    kind, _, sealed = request.param.partition(", ")
    place = {"database": "database", "filesystem": str(tmp_path / "blobs"), "s3": "s3://artifacts/some/folder"}[kind]
    if kind == "s3":
        request.getfixturevalue("s3")
    if sealed:
        settings.A2A_CONTENT_KEYS = [Fernet.generate_key().decode()]
    use(settings, place)
    return place
