"""Blobs, the same in every storage: what is put is there, once, as it was; what nothing names goes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from pytest_django import Settings
from storages.backends.s3 import S3Storage

from artifacts_app import blobs, collector, sealing
from artifacts_app.models import Blob, BlobRemoval, MessageFile
from tasks_app import engine
from tasks_app.engine import ArtifactRecord, Chunk
from tests.factory import Factory, completed
from tests.s3 import FakeS3
from tests.storage.conftest import use

pytestmark = pytest.mark.django_db
SIZES = [0, 1, 65_535, 65_536, 65_537, 1024 * 1024, 3 * 1024 * 1024 + 7]


def bytes_of(size: int, seed: int = 0) -> bytes:
    """So many bytes, of which no part repeats."""
    return hashlib.shake_256(seed.to_bytes(4, "big")).digest(size)


def due(*blob_ids: UUID) -> None:
    """Lets the time pass after which the collector looks at these."""
    Blob.objects.filter(id__in=blob_ids).update(collect_at=Now() - timedelta(seconds=1))


def names(place: str) -> list[str]:
    """What stands in the storage itself."""
    return storages[place].listdir("")[1]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_is_read_as_it_was(storage: str, size: int) -> None:
    content = bytes_of(size)
    stored = blobs.put(content)
    assert (stored.size_bytes, stored.sha256) == (size, hashlib.sha256(content).digest())
    assert blobs.load(stored) == content
    assert collector.verify().is_well


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (0, 65_536), (65_535, 65_537), (65_536, 131_072), (1_048_570, 1_048_590), (0, 0), (9, 9)],
)
def test_a_range_is_read_without_what_stands_around_it(storage: str, start: int, stop: int) -> None:
    content = bytes_of(2 * 1024 * 1024 + 3)
    stored = blobs.put(content)
    assert b"".join(blobs.read(stored, range(start, stop))) == content[start:stop]
    end = range(len(content) - 5, len(content))
    assert b"".join(blobs.read(stored, end)) == content[-5:]


def test_the_same_content_stands_there_once(storage: str) -> None:
    first, second = blobs.put(bytes_of(200_000)), blobs.put(bytes_of(200_000))
    streamed = blobs.put_stream(bytes_of(200_000)[at : at + 1000] for at in range(0, 200_000, 1000))
    assert first == second == streamed
    collector.collect()
    assert names(storage) == [first.name]
    assert Blob.objects.count() == 1


def test_what_nothing_names_is_collected_after_a_while(storage: str) -> None:
    kept, gone = blobs.put(b"kept"), blobs.put(b"gone")
    assert collector.collect() == 0
    MessageFile.objects.create(task_id=uuid4(), blob_id=kept.id)
    due(kept.id, gone.id)
    assert collector.collect() == 1
    assert names(storage) == [kept.name]
    assert blobs.load(kept) == b"kept"
    assert Blob.objects.get().collect_at is None, "it is looked at again when something that names it goes"
    assert collector.verify().is_well


def test_what_was_collected_can_be_put_again(storage: str) -> None:
    first = blobs.put(b"again")
    due(first.id)
    collector.collect()
    second = blobs.put(b"again")
    assert second.id != first.id
    assert blobs.load(second) == b"again"


def test_putting_it_again_keeps_it_for_another_while(storage: str) -> None:
    stored = blobs.put(b"wanted")
    due(stored.id)
    blobs.put(b"wanted")
    assert collector.collect() == 0


def test_a_content_that_breaks_off_leaves_nothing(storage: str) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes_of(2 * 1024 * 1024)
        raise ConnectionResetError("the client has gone")

    with pytest.raises(ConnectionResetError):
        blobs.put_stream(broken())
    collector.collect()
    assert names(storage) == []
    assert not Blob.objects.exists()
    assert collector.verify().is_well


def test_more_than_may_be_put_is_refused_and_leaves_nothing(storage: str) -> None:
    with pytest.raises(blobs.TooLarge, match="more than 1000 bytes"):
        blobs.put_stream([b"x" * 600, b"x" * 600], limit_bytes=1000)
    assert blobs.put_stream([b"x" * 600, b"x" * 400], limit_bytes=1000).size_bytes == 1000
    collector.collect()
    assert len(names(storage)) == 1


def test_bytes_that_are_lost_are_found_out(storage: str) -> None:
    stored, other = blobs.put(bytes_of(100_000)), blobs.put(b"other")
    storages[storage].delete(stored.name)
    with pytest.raises(OSError, match=r".+"):
        blobs.load(stored)
    report = collector.verify()
    assert report.without_bytes == [stored.id]
    assert report.blobs == 2
    assert blobs.load(other) == b"other"


def test_bytes_that_no_row_speaks_of_are_found_and_deleted(storage: str) -> None:
    kept = blobs.put(b"kept")
    stray = str(uuid4())
    storages[storage].save(stray, ContentFile(b"stray"))
    assert collector.verify().without_row == [(storage, stray)]
    assert collector.verify(delete=True).without_row == [(storage, stray)]
    assert collector.verify().is_well
    assert names(storage) == [kept.name]


def test_what_the_collector_does_not_know_of_is_looked_at_again(storage: str) -> None:
    stored = blobs.put(b"forgotten")
    Blob.objects.update(collect_at=None)
    assert collector.collect() == 0
    assert collector.look_again() == 1
    assert collector.collect() == 1
    assert not Blob.objects.filter(id=stored.id).exists()


def test_a_storage_that_is_down_keeps_what_is_to_be_deleted_on_record(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = blobs.put(b"gone")
    due(stored.id)

    def down(name: str) -> None:
        raise OSError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(storages[storage], "delete", down)
        assert collector.collect() == 0
    assert BlobRemoval.objects.get().id == stored.id
    assert collector.verify().is_well, "bytes that are to go are on record"
    assert collector.collect() == 1
    assert names(storage) == []


def test_what_the_old_storage_holds_is_read_when_another_is_written_to(
    storage: str, settings: Settings, tmp_path: Path
) -> None:
    old = blobs.put(b"old")
    use(settings, str(tmp_path / "new"), storage)
    new = blobs.put(b"new")
    assert (blobs.load(old), blobs.load(new)) == (b"old", b"new")
    assert new.storage == str(tmp_path / "new")
    assert collector.verify().is_well


def test_a_blob_of_a_storage_that_is_not_named_any_more_says_so(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(settings, str(tmp_path / "old"))
    stored = blobs.put(b"old")
    settings.STORAGES = {name: entry for name, entry in settings.STORAGES.items() if name != str(tmp_path / "old")}
    settings.A2A_ARTIFACT_STORAGE = ["database"]
    with pytest.raises(blobs.StorageFailed, match="A2A_ARTIFACT_STORAGE does not name"):
        blobs.load(stored)
    assert collector.verify().out_of_reach == {str(tmp_path / "old"): 1}
    with pytest.raises(SystemExit):
        call_command("a2a", "storage")
    assert f"out of reach: 1 in {tmp_path / 'old'}" in capsys.readouterr().out


def test_what_is_put_again_heals_what_was_lost(storage: str) -> None:
    content = bytes_of(200_000)
    lost = blobs.put(content)
    for pieces in ([content], [content[:100], content[100:]]):
        storages[storage].delete(lost.name)
        assert (blobs.put(pieces[0]) if len(pieces) == 1 else blobs.put_stream(pieces)) == lost
        assert blobs.load(lost) == content
    collector.collect()
    assert collector.verify().is_well


def test_the_same_content_goes_where_contents_go_now(storage: str, settings: Settings, tmp_path: Path) -> None:
    old = blobs.put(b"the same")
    use(settings, str(tmp_path / "new"), storage)
    new = blobs.put(b"the same")
    assert (new.storage, blobs.put(b"the same")) == (str(tmp_path / "new"), new)
    settings.A2A_CONTENT_KEYS = [Fernet.generate_key().decode(), *settings.A2A_CONTENT_KEYS]
    sealed = blobs.put(b"the same")
    assert sealed.key_id == sealing.key_id() != new.key_id
    assert [blobs.load(each) for each in (old, new, sealed)] == [b"the same"] * 3


def test_other_files_of_a_folder_and_other_spellings_of_it_are_left_alone(settings: Settings, tmp_path: Path) -> None:
    use(settings, str(tmp_path))
    stored = blobs.put(b"kept")
    (tmp_path / "precious.txt").write_text("not ours")
    use(settings, f"{tmp_path}/")
    assert collector.verify(delete=True).without_row == []
    assert (tmp_path / "precious.txt").exists()
    assert (tmp_path / stored.name).exists()


def test_what_is_put_again_before_its_task_goes_keeps_its_while(storage: str, factory: Factory) -> None:
    """A prune of the one task that named it, right after somebody put the same to name it."""
    claim = factory.claimed()
    chunk = Chunk(kind="raw", content=bytes_of(100_000), media_type="application/octet-stream")
    factory.write(claim, ArtifactRecord(artifact_id="a", chunks=(chunk,), event=b""), finish=completed())
    blobs.put(bytes_of(100_000))
    engine.run(engine.delete, [claim.task_id])
    assert collector.collect() == 0


def test_the_command_says_what_is_lost_and_deletes_what_is_stray(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, lost = blobs.put(b"kept" * 300), blobs.put(b"lost")
    MessageFile.objects.create(task_id=uuid4(), blob_id=kept.id)
    MessageFile.objects.create(task_id=uuid4(), blob_id=lost.id)
    call_command("a2a", "storage")
    assert capsys.readouterr().out == "2 contents, 1.2 KB\n"
    storages[storage].delete(lost.name)
    stray = str(uuid4())
    storages[storage].save(stray, ContentFile(b"stray"))
    with pytest.raises(SystemExit) as ended:
        call_command("a2a", "storage", "--delete")
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert f"lost: {lost.id}\n" in said
    assert f"deleted: {stray} in {storage}\n" in said
    assert names(storage) == [kept.name]


# Sealed ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["database", "filesystem"])
def sealed(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> str:
    place = {"database": "database", "filesystem": str(tmp_path / "blobs")}[request.param]
    settings.A2A_CONTENT_KEYS = [Fernet.generate_key().decode()]
    use(settings, place)
    return place


def raw(place: str, stored: blobs.Stored) -> bytes:
    with storages[place].open(stored.name) as file:
        return b"".join(file.chunks())


def test_nothing_of_a_sealed_content_can_be_read(sealed: str) -> None:
    stored = blobs.put(b"a secret of the patient's" * 10_000)
    at_rest = raw(sealed, stored)
    assert b"secret" not in at_rest
    assert len(at_rest) == sealing.sealed_bytes(stored.size_bytes)
    assert blobs.load(stored) == b"a secret of the patient's" * 10_000


def test_with_another_key_in_front_the_old_one_still_opens(sealed: str, settings: Settings) -> None:
    old = blobs.put(b"old")
    settings.A2A_CONTENT_KEYS = [Fernet.generate_key().decode(), *settings.A2A_CONTENT_KEYS]
    new = blobs.put(b"new")
    assert (blobs.load(old), blobs.load(new)) == (b"old", b"new")
    settings.A2A_CONTENT_KEYS = settings.A2A_CONTENT_KEYS[:1]
    with pytest.raises(sealing.Unopenable, match="A2A_CONTENT_KEYS does not hold"):
        blobs.load(old)


@pytest.mark.parametrize("damage", ["a byte", "the last frame", "two frames changed", "another blob's"])
def test_sealed_bytes_that_were_changed_do_not_open(sealed: str, damage: str) -> None:
    stored, other = blobs.put(bytes_of(300_000)), blobs.put(bytes_of(300_000, seed=1))
    frame = sealing.FRAME_BYTES + sealing.TAG_BYTES
    content = raw(sealed, stored)
    changed = {
        "a byte": content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
        "the last frame": content[: 4 * frame],
        "two frames changed": content[frame : 2 * frame] + content[:frame] + content[2 * frame :],
        "another blob's": raw(sealed, other),
    }[damage]
    storages[sealed].delete(stored.name)
    storages[sealed].save(stored.name, ContentFile(changed))
    with pytest.raises(sealing.Unopenable, match="not as they were sealed"):
        blobs.load(stored)


# S3 -------------------------------------------------------------------------------------------------------------------


def test_s3_is_told_to_seal(s3: FakeS3, settings: Settings) -> None:
    use(settings, "s3://artifacts")
    small, large = blobs.put(b"small"), blobs.put(bytes_of(20 * 1024 * 1024))
    assert [s3.head(stored.name)["ServerSideEncryption"] for stored in (small, large)] == ["AES256", "AES256"]
    assert s3.uploads() == []


def test_s3_is_told_nothing_where_it_cannot_seal(s3: FakeS3, settings: Settings) -> None:
    settings.A2A_S3_ENCRYPTION = ""
    use(settings, "s3://artifacts")
    assert "ServerSideEncryption" not in s3.head(blobs.put(b"x").name)


def test_an_s3_that_is_down_is_an_error_that_may_be_tried_again(s3: FakeS3, settings: Settings) -> None:
    use(settings, "s3://artifacts")
    stored = blobs.put(b"before")
    s3.stop()
    try:
        for content in (b"meanwhile", b"before"):
            with pytest.raises(blobs.StorageFailed, match="the storage failed"):
                blobs.put(content)
        with pytest.raises(OSError, match="S3"):
            blobs.load(stored)
    finally:
        s3.start()
    assert blobs.load(blobs.put(b"meanwhile")) == b"meanwhile"
    collector.collect()
    assert collector.verify().is_well


def test_an_s3_that_loses_a_write_is_found_out_before_anything_names_it(
    s3: FakeS3, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(settings, "s3://artifacts")
    # It answers as if it had taken it.
    monkeypatch.setattr(S3Storage, "_save", lambda self, name, content: name)
    with pytest.raises(blobs.StorageFailed, match="S3 has no"):
        blobs.put(b"lost")
    assert not Blob.objects.filter(stored_at__isnull=False).exists()


# Two at once ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_that_put_the_same_at_once_make_one_blob(storage: str) -> None:
    barrier = threading.Barrier(4)
    found: list[blobs.Stored] = []

    def put() -> None:
        try:
            barrier.wait()
            found.append(blobs.put(bytes_of(500_000)))
        finally:
            connection.close()

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stored.id for stored in found}) == 1
    assert blobs.load(found[0]) == bytes_of(500_000)
    collector.collect()
    assert names(storage) == [found[0].name]
    assert collector.verify().is_well
