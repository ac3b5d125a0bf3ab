"""The collector and whoever comes to name a blob, at once: what is named stays, and what is gone cannot be named."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from artifacts_app import blobs, collector
from artifacts_app.models import Blob, BlobPiece, BlobRemoval, MessageFile
from tasks_app import engine
from tasks_app.engine import ArtifactRecord, Chunk
from tasks_app.models import Task
from tests.factory import Factory, completed
from tests.live import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_connection_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)


class Other(threading.Thread):
    """Somebody else, with a connection of their own; ``join`` raises what they raised."""

    def __init__(self, body: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._body = body
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._body()
        except BaseException as error:
            self._error = error
        finally:
            connection.close()

    def join(self, timeout: float | None = 30.0) -> None:
        super().join(timeout)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error


def due(stored: blobs.Stored) -> None:
    Blob.objects.filter(id=stored.id).update(collect_at=Now())


def name(blob_id: UUID) -> None:
    MessageFile.objects.create(task_id=uuid4(), blob_id=blob_id)


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_what_is_named_while_it_is_collected_stays() -> None:
    """It is named after the collector has looked, and its row is locked by the constraint's check."""
    stored, alone = blobs.put(b"named at last"), blobs.put(b"not named")
    due(stored)
    due(alone)
    with transaction.atomic(), connection.cursor() as cursor:
        name(stored.id)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        other = Other(collector.collect)
        wait_for(somebody_waits, timeout_s=10, what="the collector waits for the row")
    other.join()
    assert blobs.load(stored) == b"named at last"
    assert [blob.id for blob in Blob.objects.all()] == [stored.id], "the other one went without it"
    assert collector.verify().is_well


def test_what_was_collected_cannot_be_named() -> None:
    stored = blobs.put(b"too late")
    due(stored)
    with pytest.raises(IntegrityError), transaction.atomic():  # noqa: PT012 (raised when it commits)
        name(stored.id)
        Other(collector.collect).join()
    assert not MessageFile.objects.exists()
    assert not BlobPiece.objects.exists()
    assert collector.verify().is_well


def test_what_is_let_go_while_the_collector_finds_it_named_is_looked_at_again(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"x" * 100_000
    claim = factory.claimed()
    chunk = Chunk(kind="raw", content=content, media_type="application/octet-stream")
    factory.write(claim, ArtifactRecord(artifact_id="a", chunks=(chunk,), event=b""), finish=completed())
    Blob.objects.update(collect_at=Now())
    really = collector._settle

    def settle(seen: Any) -> None:
        # Between its look and its word that there is nothing to do.
        Other(lambda: engine.run(engine.delete, [claim.task_id])).join()
        really(seen)

    with monkeypatch.context() as patched:
        patched.setattr(collector, "_settle", settle)
        collector.collect()
    assert not Task.objects.exists()
    collector.collect()
    assert not Blob.objects.exists()
    assert not BlobPiece.objects.exists()


def test_two_collectors_at_once_delete_each_blob_once() -> None:
    stored = [blobs.put(b"%d" % number * 100) for number in range(50)]
    for each in stored:
        due(each)
    barrier = threading.Barrier(3)

    def collect() -> None:
        barrier.wait()
        collector.collect()

    others = [Other(collect) for _ in range(3)]
    for other in others:
        other.join()
    assert not Blob.objects.exists()
    assert not BlobRemoval.objects.exists()
    assert not BlobPiece.objects.exists()


def test_a_writer_that_waited_too_long_is_told_and_writes_nothing(factory: Factory) -> None:
    """A blob that was collected before its artifact was written: the constraint refuses the artifact."""
    claim = factory.claimed()
    stored = blobs.put(b"y" * 100_000)
    due(stored)
    collector.collect()
    chunk = Chunk(kind="raw", media_type="application/octet-stream", stored=stored)
    with pytest.raises(IntegrityError):
        factory.write(claim, ArtifactRecord(artifact_id="a", chunks=(chunk,), event=b""), finish=completed())
    assert Task.objects.get(id=claim.task_id).status == "running"
