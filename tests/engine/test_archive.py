"""The archive: what is deleted was written before, to files of lines or to MongoDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.files.storage import storages

from tasks_app import archive, checks, retention
from tasks_app.engine import ArtifactRecord, Chunk, Note
from tasks_app.models import Task
from tests.factory import Factory, completed
from tests.mongodb import fake_mongodb
from tests.unit.test_a2a_command import a2a

pytestmark = pytest.mark.django_db(transaction=True)


def ended(factory: Factory) -> UUID:
    """A task that said something and made an artifact."""
    claim = factory.claimed(metadata={"for": "it"})
    chunk = Chunk(kind="text", content=b"whole", media_type="text/plain")
    record = ArtifactRecord(artifact_id="a", chunks=(chunk,), event=b"", name="report")
    factory.write(claim, Note(progress=0.5), record, finish=completed())
    return claim.task_id


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]


@pytest.fixture
def past(settings: Any) -> None:
    """Everything that has ended is past its time."""
    settings.A2A_KEEP_DAYS = settings.A2A_KEEP_FAILED_DAYS = 1e-9


def test_what_is_deleted_was_written_with_its_events_attempts_and_artifacts(
    factory: Factory, settings: Any, tmp_path: Path, past: None
) -> None:
    settings.A2A_ARCHIVE_TO = str(tmp_path)
    task_id, waits = ended(factory), factory.pending()
    assert retention.prune() == 1
    assert [task.id for task in Task.objects.all()] == [waits]
    (record,) = lines(tmp_path)
    assert (record["id"], record["status"], record["metadata"], record["client"]) == (
        str(task_id),
        "completed",
        {"for": "it"},
        "owner",
    )
    assert record["message"]["parts"] == [{"text": "hello"}]
    assert [(event["generation"], event["kind"]) for event in record["events"]] == [
        (1, "status"),
        (2, "status"),
        (3, "progress"),
        (4, "artifact"),
        (5, "status"),
    ]
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["completed"]
    (artifact,) = record["artifacts"]
    assert (artifact["name"], artifact["size_bytes"], len(artifact["sha256"])) == ("report", 5, 64)
    (path,) = tmp_path.rglob("*.jsonl")
    assert path.relative_to(tmp_path).as_posix() == f"{record['completed_at'][:10]}/{task_id}.jsonl"


def test_what_cannot_be_written_is_not_deleted(factory: Factory, settings: Any, tmp_path: Path, past: None) -> None:
    (tmp_path / "file").write_text("in the way")
    settings.A2A_ARCHIVE_TO = str(tmp_path / "file")
    ended(factory)
    with pytest.raises(OSError, match="file"):
        retention.prune()
    assert Task.objects.count() == 1


def test_without_an_archive_it_is_deleted(factory: Factory, past: None) -> None:
    ended(factory)
    assert retention.prune() == 1


def test_any_storage_of_the_settings_will_do(factory: Factory, settings: Any) -> None:
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "attic": memory}
    archive.sink("storage:attic").write(archive.records([ended(factory)]))
    (day,) = storages["attic"].listdir("")[0]
    (name,) = storages["attic"].listdir(day)[1]
    assert name == f"{Task.objects.get().id}.jsonl"


def test_in_mongodb_a_task_is_a_document_however_often_it_is_written(
    factory: Factory, settings: Any, past: None
) -> None:
    task_ids = [ended(factory) for _ in range(3)]
    with fake_mongodb() as server:
        to = f"{server.url}/hospital"
        assert a2a("archive", "--to", to) == (0, ["wrote 3 tasks"])
        settings.A2A_ARCHIVE_TO = to
        server.fails = True
        with pytest.raises(Exception, match="not now"):
            retention.prune()
        assert Task.objects.count() == 3
        server.fails = False
        assert retention.prune() == 3
        documents = server.documents["hospital.tasks"]
    assert set(documents) == {str(task_id) for task_id in task_ids}
    assert [len(document["events"]) for document in documents.values()] == [5, 5, 5]


def test_the_command_writes_what_ended_page_by_page(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks_app.management.archive.BATCH", 2)
    task_ids = [ended(factory) for _ in range(5)]
    factory.pending()
    assert a2a("archive", "--to", str(tmp_path)) == (0, ["wrote 5 tasks"])
    assert [record["id"] for record in lines(tmp_path)] == [str(task_id) for task_id in task_ids]
    assert a2a("archive", "--to", str(tmp_path), "--days", "1") == (0, ["wrote 0 tasks"])
    assert Task.objects.count() == 6


@pytest.mark.parametrize(
    ("to", "why"), [("storage:nowhere", "there is no storage 'nowhere'"), ("", "it names nothing")]
)
def test_an_archive_that_is_none_is_refused(settings: Any, to: str, why: str) -> None:
    code, (said,) = a2a("archive", "--to", to)
    assert (code, why in said) == (2, True)
    settings.A2A_ARCHIVE_TO = to
    assert [error.id for error in checks.archive_to()] == (["a2a.E025"] if to else [])
