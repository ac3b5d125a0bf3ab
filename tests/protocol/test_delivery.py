"""The bytes of an artifact: whole, by ranges, and not again to a client that has them (RFC 9110)."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest
from pytest_django import Settings

from artifacts_app import blobs
from artifacts_app.models import Artifact
from tasks_app.api import delivery
from tasks_app.engine import ArtifactRecord, Chunk
from tests.factory import Factory
from tests.protocol.doors import Doors

#: Some are longer than a slice, and end within one.
PARTS = (b"0123456", b"", b"789abcdef", b"ghi")
WHOLE = b"".join(PARTS)


@pytest.fixture(autouse=True, params=["in rows", "in blobs"])
def _small_slices(request: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SLICE_BYTES", 4)
    monkeypatch.setattr(blobs, "SLICE_BYTES", 4)
    settings.A2A_ARTIFACT_INLINE_BYTES = {"in rows": 64 * 1024, "in blobs": -1}[request.param]


def made(factory: Factory, *parts: bytes) -> str:
    """The address of an artifact of these parts."""
    chunks = tuple(Chunk(kind="raw", content=part, media_type="image/png", filename="a.png") for part in parts)
    record = ArtifactRecord(artifact_id="a", chunks=chunks, event=b"")
    factory.write(factory.claimed(), record)
    return f"/api/v1/artifacts/{Artifact.objects.latest('created_at').id}/content"


def test_an_artifact_comes_whole_whatever_its_parts(doors: Doors, local: Factory) -> None:
    reply = doors.send("GET", made(local, *PARTS))
    assert (reply.status_code, reply.content, reply.headers["content-type"]) == (200, WHOLE, "image/png")
    assert reply.headers["content-length"] == str(len(WHOLE))
    assert reply.headers["etag"] == f'"{hashlib.sha256(WHOLE).hexdigest()}"'
    assert (reply.headers["accept-ranges"], reply.headers["cache-control"]) == ("bytes", "private, no-cache")


def test_head_says_the_same_without_the_bytes(doors: Doors, local: Factory) -> None:
    path = made(local, *PARTS)
    whole, head = (doors.send(verb, path) for verb in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert dict(head.headers) == dict(whole.headers)
    ranged = doors.send("HEAD", path, headers={"range": "bytes=0-3"})
    assert (ranged.status_code, dict(ranged.headers)) == (200, dict(whole.headers)), "a range is for GET only"


def test_every_range_is_what_stands_there(doors: Doors, local: Factory) -> None:
    path = made(local, *PARTS)
    for first, last in itertools.combinations_with_replacement(range(0, len(WHOLE), 3), 2):
        reply = doors.send("GET", path, headers={"range": f"bytes={first}-{last}"})
        assert (reply.status_code, reply.content) == (206, WHOLE[first : last + 1])
        assert reply.headers["content-range"] == f"bytes {first}-{last}/{len(WHOLE)}"
        assert reply.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("bytes=5-", WHOLE[5:]), ("bytes=-5", WHOLE[-5:]), ("bytes=-500", WHOLE), ("BYTES= 17 - 999", WHOLE[17:])],
)
def test_a_range_may_leave_out_an_end_or_pass_it(doors: Doors, local: Factory, said: str, expected: bytes) -> None:
    reply = doors.send("GET", made(local, *PARTS), headers={"range": said})
    assert (reply.status_code, reply.content) == (206, expected)


@pytest.mark.parametrize("said", ["bytes=19-", "bytes=99-100", "bytes=-0", f"bytes={10**17}-"])
def test_a_range_beyond_the_end_is_refused_with_the_length(doors: Doors, local: Factory, said: str) -> None:
    reply = doors.send("GET", made(local, *PARTS), headers={"range": said})
    assert (reply.status_code, reply.headers["content-range"]) == (416, f"bytes */{len(WHOLE)}")
    assert reply.json()["detail"] == f"Range: the artifact has {len(WHOLE)} bytes"


@pytest.mark.parametrize(
    "said", ["bytes=", "bytes=-", "bytes=5-3", "bytes=a-b", "items=0-1", "bytes=0-1,4-5", f"bytes={10**30}-", "²"]
)
def test_what_is_no_range_is_answered_whole(doors: Doors, local: Factory, said: str) -> None:
    reply = doors.send("GET", made(local, *PARTS), headers={"range": said.encode()})
    assert (reply.status_code, reply.content) == (200, WHOLE)


def test_an_empty_artifact_has_no_range(doors: Doors, local: Factory) -> None:
    path = made(local, b"")
    assert doors.send("GET", path).content == b""
    assert doors.send("GET", path, headers={"range": "bytes=0-"}).status_code == 416


@pytest.mark.parametrize(
    ("tags", "status"), [("{}", 304), ("W/{}", 304), ('"x", {}', 304), ("*", 304), ('"x"', 200), ("{}x", 200)]
)
def test_a_client_that_has_it_is_not_sent_it_again(doors: Doors, local: Factory, tags: str, status: int) -> None:
    path = made(local, *PARTS)
    etag = doors.send("GET", path).headers["etag"]
    reply = doors.send("GET", path, headers={"if-none-match": tags.format(etag)})
    assert (reply.status_code, reply.headers["etag"]) == (status, etag)
    assert reply.content == (b"" if status == 304 else WHOLE)


def test_a_range_goes_on_only_with_what_it_began_with(doors: Doors, local: Factory) -> None:
    path = made(local, *PARTS)
    etag = doors.send("GET", path).headers["etag"]
    for condition, status in ((etag, 206), (f"W/{etag}", 200), ('"other"', 200)):
        reply = doors.send("GET", path, headers={"range": "bytes=4-", "if-range": condition})
        assert reply.status_code == status


def test_what_was_to_be_another_is_not_sent(doors: Doors, local: Factory) -> None:
    path = made(local, *PARTS)
    etag = doors.send("GET", path).headers["etag"]
    for tags, status in ((etag, 206), ("*", 206), (f'"x", {etag}', 206), ('"x"', 412), (f"W/{etag}", 412)):
        assert doors.send("GET", path, headers={"range": "bytes=4-", "if-match": tags}).status_code == status


def test_what_still_grows_has_another_tag_each_time(doors: Doors, local: Factory) -> None:
    claim = local.claimed()
    seen: list[Any] = []
    for number in range(3):
        chunk = Chunk(kind="text", content=b"piece", media_type="text/plain")
        record = ArtifactRecord(
            artifact_id="log",
            chunks=(chunk,),
            event=b"",
            append=number > 0,
            last_chunk=False,
            parts_before=number,
            bytes_before=5 * number,
        )
        local.write(claim, record)
        reply = doors.send("GET", f"/api/v1/artifacts/{Artifact.objects.get().id}/content")
        seen.append((reply.content, reply.headers["etag"]))
    assert [content for content, _ in seen] == [b"piece", b"piece" * 2, b"piece" * 3]
    assert len({etag for _, etag in seen}) == 3
