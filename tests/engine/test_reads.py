"""Reads are bounded: by events, and by what these carry."""

from __future__ import annotations

from uuid import UUID

import pytest

from tasks_app import engine, reads
from tasks_app.engine import ArtifactRecord, Chunk, Note
from tests.factory import Factory

pytestmark = pytest.mark.django_db
KIB = 1024


def artifact(name: str, size_bytes: int) -> ArtifactRecord:
    half = Chunk(kind="raw", content=bytes(size_bytes // 2), media_type="image/png")
    return ArtifactRecord(artifact_id=name, chunks=(half, half), event=b"")


def pages(task_id: UUID, *, limit: int = reads.EVENTS_MAX) -> list[list[int]]:
    """The generations that one read after another returns, to the end."""
    found: list[list[int]] = []
    after, more = 0, True
    while more:
        page = engine.run(reads.events, task_id, after=after, limit=limit)
        assert [record.more for record in page[:-1]] == [True] * (len(page) - 1)
        found.append([record.generation for record in page])
        after, more = page[-1].generation, page[-1].more
    return found


def test_a_read_stops_at_a_mebibyte_of_what_events_carry(factory: Factory) -> None:
    claim = factory.claimed()
    sizes = [600 * KIB, 300 * KIB, 300 * KIB, 5000 * KIB, 10 * KIB]
    factory.write(claim, *[artifact(str(n), size) for n, size in enumerate(sizes)])
    assert pages(claim.task_id) == [[1, 2, 3, 4], [5], [6], [7]]


def test_messages_count_as_well(factory: Factory) -> None:
    claim = factory.claimed()
    factory.write(claim, *[Note(kind="message", message=bytes(400 * KIB)) for _ in range(5)])
    assert pages(claim.task_id) == [[1, 2, 3, 4], [5, 6], [7]]


@pytest.mark.parametrize(
    ("limit", "expected"), [(3, [[1, 2, 3], [4, 5]]), (5, [[1, 2, 3, 4, 5]]), (6, [[1, 2, 3, 4, 5]])]
)
def test_a_read_says_whether_there_is_more(factory: Factory, limit: int, expected: list[list[int]]) -> None:
    claim = factory.claimed()
    factory.write(claim, *[Note(progress=n / 10) for n in range(3)])
    assert pages(claim.task_id, limit=limit) == expected


def test_after_the_newest_there_is_nothing(factory: Factory) -> None:
    assert engine.run(reads.events, factory.pending(), after=1) == []
