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


def test_reads_of_several_tasks_go_together_and_share_the_mebibyte(factory: Factory) -> None:
    large, small = factory.claimed(), factory.claimed()
    factory.write(large, *[artifact(str(n), 400 * KIB) for n in range(3)])
    factory.write(small, Note(progress=0.5))
    cursors = [(large.task_id, 2), (small.task_id, 0), (small.task_id, 9), (large.task_id, 4)]
    found = engine.run(reads.events_of, cursors)
    assert [[record.generation for record in records] for records in found] == [[3], [1, 2, 3], [], [5]]
    assert [len(found[0][0].parts), found[0][0].more, found[3][0].more] == [2, True, False]
    assert {record.task_id for record in found[1]} == {small.task_id}


def piece(text: str, *, append: bool, parts_before: int = 0) -> ArtifactRecord:
    chunk = Chunk(kind="text", content=text.encode(), media_type="text/plain")
    return ArtifactRecord(
        artifact_id="a", chunks=(chunk,), event=b"", append=append, last_chunk=False, parts_before=parts_before
    )


def test_artifacts_are_shown_as_they_stood_at_a_generation(factory: Factory) -> None:
    """A stream that goes on from there sees no piece twice."""
    claim = factory.claimed()
    factory.write(claim, piece("one", append=False), piece("two", append=True, parts_before=1))
    factory.write(claim, piece("new", append=False))

    def seen(generation: int) -> list[str]:
        views = engine.run(reads.artifacts_of, [(claim.task_id, generation)]).get(claim.task_id, ())
        return [part.content.decode() for view in views for part in view.parts]

    assert [seen(generation) for generation in (2, 5)] == [[], ["new"]]
    # What was made anew since is left out: the stream brings it.
    assert seen(4) == []
    factory.write(claim, piece("er", append=True, parts_before=1))
    assert [seen(5), seen(6)] == [["new"], ["new", "er"]]


def test_tasks_that_are_wanted_together_are_each_as_they_are_alone(factory: Factory) -> None:
    claim, other = factory.claimed(), factory.pending()
    factory.write(claim, piece("one", append=False), Note(kind="message", message=b""))
    mine = factory.owner.pk
    wanted = [
        reads.Wanted(claim.task_id, mine),
        reads.Wanted(claim.task_id, mine, "echo", artifacts=False),
        reads.Wanted(claim.task_id, mine, history=0),
        reads.Wanted(claim.task_id, mine, history=1),
        reads.Wanted(claim.task_id, mine, "sleep"),
        reads.Wanted(claim.task_id, mine + 1),
        reads.Wanted(other, mine),
    ]
    found = engine.run(reads.tasks_of, wanted)
    shapes = [task and (task.id, len(task.messages), len(task.artifacts)) for task in found]
    first = claim.task_id
    assert shapes == [(first, 2, 1), (first, 2, 0), (first, 0, 1), (first, 1, 1), None, None, (other, 1, 0)]
    assert found[3] is not None
    assert found[3].messages == (b"",), "the newest"
    assert found == [engine.run(reads.tasks_of, [one])[0] for one in wanted]
