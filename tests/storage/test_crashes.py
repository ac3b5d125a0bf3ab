"""Killed between the bytes and the row, in both orders: no row is without its bytes, no bytes stay without a row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.core.files.storage import storages
from django.db import connection
from django.db.models.functions import Now

from artifacts_app import blobs, collector
from artifacts_app.models import Blob, BlobRemoval, MessageFile
from tests.storage.test_blobs import names

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
PLACES = pytest.mark.parametrize("storage", ["database", "filesystem", "s3"], indirect=True)
PUTTING = [
    "before the first byte",
    "in the middle of the bytes",
    "before the row says that all is there",
    "before anything names it",
]
COLLECTING = [
    "in the transaction that removes the row",
    "after the row, before its bytes",
    "after the bytes, before it is known",
]


def ran(storage: str, what: str, point: str) -> subprocess.CompletedProcess[str]:
    """Runs a process that puts or collects, and is killed there."""
    database = connection.settings_dict
    url = f"postgresql://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "a2a_project.settings",
        "DATABASE_URL": f"{url}/{database['NAME']}",
        "A2A_ARTIFACT_STORAGE": storage,
        "A2A_CONTENT_KEYS": ",".join(django_settings.A2A_CONTENT_KEYS),
    }
    command = [sys.executable, "-m", "tests.storage.crash", what, point]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def killed(storage: str, what: str, point: str) -> None:
    done = ran(storage, what, point)
    assert done.returncode == -signal.SIGKILL, done.stderr


def all_is_due() -> None:
    Blob.objects.exclude(collect_at=None).update(collect_at=Now())


@PLACES
@pytest.mark.parametrize("point", PUTTING)
def test_killed_while_it_puts(storage: str, point: str) -> None:
    kept = blobs.put(b"kept")
    MessageFile.objects.create(task_id=uuid4(), blob_id=kept.id)
    killed(storage, "put", point)
    stored = Blob.objects.exclude(id=kept.id).get().stored_at is not None
    assert stored == (point == PUTTING[-1])
    report = collector.verify()
    assert report.is_well, "what is half there has a row, which promises nothing"
    all_is_due()
    collector.collect()
    assert names(storage) == [kept.name]
    assert [blob.id for blob in Blob.objects.all()] == [kept.id]
    assert blobs.load(kept) == b"kept"


@PLACES
@pytest.mark.parametrize("point", COLLECTING)
def test_killed_while_it_collects(storage: str, point: str) -> None:
    kept, gone = blobs.put(b"kept"), blobs.put(b"gone")
    MessageFile.objects.create(task_id=uuid4(), blob_id=kept.id)
    all_is_due()
    killed(storage, "collect", point)
    assert Blob.objects.filter(id=gone.id).exists() == (point == COLLECTING[0])
    assert (gone.name in names(storage)) == (point != COLLECTING[2])
    report = collector.verify()
    assert report.is_well, "bytes that are to go are on record"
    collector.collect()
    assert names(storage) == [kept.name]
    assert not BlobRemoval.objects.exists()
    assert storages[storage].exists(kept.name)
    assert collector.verify().is_well


@pytest.mark.parametrize("storage", ["filesystem"], indirect=True)
def test_a_file_that_cannot_be_written_to_its_end_is_said_and_leaves_nothing(storage: str) -> None:
    """By a limit of the kernel's on the size of files, as on a disk that is full."""
    done = ran(storage, "fill", "")
    assert (done.returncode, done.stdout) == (0, "the storage failed: [Errno 27] File too large"), done.stderr
    assert Blob.objects.get().stored_at is None
    assert collector.verify().is_well
    collector.collect()
    assert names(storage) == []
    assert not Blob.objects.exists()
