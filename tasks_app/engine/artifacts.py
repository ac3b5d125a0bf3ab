"""Artifacts, as parts of the statements that write and claim: their rows, their parts, and what a retry keeps of them.

The content of an artifact is what its rows of parts hold from the event that began it to the last one that added to it.
What came before that stays, for the streams that replay it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from artifacts_app.blobs import Stored
from artifacts_app.models import BLOB, SIZE, STORED
from tasks_app.engine.core import Contents, Statement, Steps
from tasks_app.engine.records import ArtifactRecord, Write

# The parts of the artifact `old` as they stood at a generation: those of the content that the newest of them is of.
_KEPT = """
    SELECT chunk.* FROM artifacts_app_artifactchunk chunk
    WHERE chunk.artifact_id = old.id AND chunk.task_id = old.task_id AND chunk.generation <= {at}
      AND COALESCE(chunk.appended_to, chunk.generation) = (
          SELECT COALESCE(newest.appended_to, newest.generation) FROM artifacts_app_artifactchunk newest
          WHERE newest.artifact_id = old.id AND newest.task_id = old.task_id AND newest.generation <= {at}
          ORDER BY newest.generation DESC LIMIT 1)
"""
# `begun` is which record of the write begins the content; 0 is one of an earlier write, whose event the row knows. Only
# the holder of the lease writes artifacts, so that what the statement's snapshot shows of them is what there is.
WRITE = """, artifact AS (
    INSERT INTO artifacts_app_artifact AS artifact
        (id, task_id, artifact_id, name, version, description, type, size_bytes, sha256, metadata, first_generation,
         generation, created_at)
    SELECT a.id, fenced.id, a.artifact_id, a.name, a.version, a.description, a.type, a.size_bytes, a.sha256, a.metadata,
           CASE WHEN a.begun = 0 THEN 0 WHEN a.begun < a.nth THEN fenced.base + a.begun END, fenced.base + a.nth, now()
    FROM unnest(%(a_attempt)s::uuid[], %(a_nth)s::int[], %(a_begun)s::int[], %(a_id)s::uuid[],
                %(a_artifact_id)s::text[], %(a_name)s::text[], %(a_version)s::int[], %(a_description)s::text[],
                %(a_type)s::text[], %(a_size)s::bigint[], %(a_sha256)s::bytea[], %(a_metadata)s::jsonb[])
         AS a(attempt_id, nth, begun, id, artifact_id, name, version, description, type, size_bytes, sha256, metadata)
    JOIN fenced USING (attempt_id)
    ON CONFLICT (task_id, artifact_id) DO UPDATE
    SET name = CASE EXCLUDED.first_generation WHEN 0 THEN artifact.name ELSE EXCLUDED.name END,
        description = CASE EXCLUDED.first_generation WHEN 0 THEN artifact.description ELSE EXCLUDED.description END,
        type = CASE EXCLUDED.type WHEN '' THEN artifact.type ELSE EXCLUDED.type END,
        size_bytes = EXCLUDED.size_bytes, sha256 = EXCLUDED.sha256,
        metadata = CASE EXCLUDED.first_generation WHEN 0 THEN artifact.metadata || EXCLUDED.metadata
                                                  ELSE EXCLUDED.metadata END,
        first_generation = CASE EXCLUDED.first_generation
                                WHEN 0 THEN COALESCE(artifact.first_generation, artifact.generation)
                                ELSE EXCLUDED.first_generation END,
        generation = EXCLUDED.generation, created_at = EXCLUDED.created_at
    RETURNING artifact.id, artifact.task_id, artifact.artifact_id
), chunk AS (
    INSERT INTO artifacts_app_artifactchunk
        (task_id, generation, position, artifact_id, kind, media_type, filename, content, blob_id, size_bytes,
         metadata, appended_to)
    SELECT artifact.task_id, fenced.base + c.nth, c.position, artifact.id, c.kind, c.media_type, c.filename, c.content,
           c.blob_id, c.size_bytes, c.metadata,
           CASE WHEN c.begun = 0
                THEN (SELECT COALESCE(old.first_generation, old.generation) FROM artifacts_app_artifact old
                      WHERE old.id = artifact.id)
                WHEN c.begun < c.nth THEN fenced.base + c.begun END
    FROM unnest(%(c_attempt)s::uuid[], %(c_nth)s::int[], %(c_begun)s::int[], %(c_artifact_id)s::text[],
                %(c_position)s::int[], %(c_kind)s::text[], %(c_media_type)s::text[], %(c_filename)s::text[],
                %(c_content)s::bytea[], %(c_blob_id)s::uuid[], %(c_size_bytes)s::bigint[], %(c_metadata)s::jsonb[])
         AS c(attempt_id, nth, begun, artifact_id, position, kind, media_type, filename, content, blob_id, size_bytes,
              metadata)
    JOIN fenced USING (attempt_id)
    JOIN artifact ON artifact.task_id = fenced.id AND artifact.artifact_id = c.artifact_id
)"""
# A new attempt that adds to what an earlier one left begins with a copy of what is kept of it, under its own event.
RESTORE = f""", restored AS (
    INSERT INTO artifacts_app_artifactchunk
        (task_id, generation, position, artifact_id, kind, media_type, filename, content, blob_id, size_bytes,
         metadata)
    SELECT fenced.id, fenced.base + r.nth,
           row_number() OVER (PARTITION BY old.id ORDER BY kept.generation, kept.position) - 1, old.id, kept.kind,
           kept.media_type, kept.filename, kept.content, kept.blob_id, kept.size_bytes, kept.metadata
    FROM unnest(%(r_attempt)s::uuid[], %(r_nth)s::int[], %(r_artifact_id)s::text[], %(r_kept)s::int[])
         AS r(attempt_id, nth, artifact_id, kept)
    JOIN fenced USING (attempt_id)
    JOIN artifacts_app_artifact old ON old.task_id = fenced.id AND old.artifact_id = r.artifact_id
    CROSS JOIN LATERAL ({_KEPT.format(at="r.kept")}) kept
)"""  # noqa: S608 (only constants are put in)

# What a content that is whole at last began with: what stands of it, or what is kept of an earlier attempt's.
BEFORE = f"""
SELECT item.nth, chunk.content, {STORED}
FROM unnest(%(task_id)s::uuid[], %(artifact_id)s::text[], %(kept)s::int[]) WITH ORDINALITY
     AS item(task_id, artifact_id, kept, nth)
JOIN artifacts_app_artifact old ON old.task_id = item.task_id AND old.artifact_id = item.artifact_id
CROSS JOIN LATERAL ({_KEPT.format(at="COALESCE(item.kept, old.generation)")}) chunk
{BLOB}
ORDER BY item.nth, chunk.generation, chunk.position
"""  # noqa: S608

# What stands of artifacts when a task is tried again: what there was when its turn began, or at its last checkpoint.
KEPT = f"""
SELECT item.task_id, old.artifact_id, at.generation, count(*)::int,
       sum({SIZE.format(chunk="kept")})::bigint
FROM unnest(%(task_id)s::uuid[], %(turn_generation)s::int[]) AS item(task_id, turn_generation)
CROSS JOIN LATERAL (
    SELECT GREATEST(item.turn_generation, max(generation)) AS generation FROM tasks_app_checkpoint
    WHERE tasks_app_checkpoint.task_id = item.task_id) at
JOIN artifacts_app_artifact old ON old.task_id = item.task_id
CROSS JOIN LATERAL ({_KEPT.format(at="at.generation")}) kept
GROUP BY 1, 2, 3
"""  # noqa: S608


#: The SHA-256 of contents, by attempt and artifact id.
Sums = dict[tuple[UUID, str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a new attempt may add to, of an artifact that an earlier one left: as it stood at this generation."""

    generation: int
    parts: int
    size_bytes: int


def kept(task_ids: Sequence[UUID], turn_generations: Sequence[int]) -> Steps[dict[UUID, dict[str, Kept]]]:
    """By task and artifact id, what stands of artifacts for the next attempt of tasks in these turns."""
    found: dict[UUID, dict[str, Kept]] = {}
    if task_ids:
        params = {"task_id": list(task_ids), "turn_generation": list(turn_generations)}
        for task_id, artifact_id, generation, parts, size_bytes in (yield Statement(KEPT, params)):
            made = Kept(generation=generation, parts=parts, size_bytes=int(size_bytes))
            found.setdefault(task_id, {})[artifact_id] = made
    return found


def sums(items: Sequence[Write]) -> Steps[Sums]:
    """The SHA-256 of what came in pieces and is whole with these writes, by attempt and artifact id."""
    whole = [
        (item, chain)
        for item in items
        for _, chain in _chains(item).values()
        if chain[-1].last_chunk and not (len(chain) == 1 and chain[0].knows_sum)
    ]
    if not whole:
        return {}
    params = {
        "task_id": [item.task_id for item, _ in whole],
        "artifact_id": [chain[0].artifact_id for _, chain in whole],
        "kept": [chain[0].kept_generation for _, chain in whole],
    }
    made = [hashlib.sha256() for _ in whole]
    begun = [chain[0].append or chain[0].kept_generation is not None for _, chain in whole]
    for nth, content, *stored in (yield Statement(BEFORE, params)) if any(begun) else ():
        if begun[nth - 1]:
            made[nth - 1].update(content if content is not None else (yield Contents([Stored(*stored)]))[0][0])
    for (_, chain), one in zip(whole, made, strict=True):
        for chunk in (chunk for record in chain for chunk in record.chunks):
            one.update((yield Contents([chunk.stored]))[0][0] if chunk.stored else chunk.content)
    return {
        (item.attempt_id, chain[0].artifact_id): one.digest() for (item, chain), one in zip(whole, made, strict=True)
    }


_ARTIFACT = (
    "a_attempt a_nth a_begun a_id a_artifact_id a_name a_version a_description a_type a_size a_sha256 a_metadata"
)
_CHUNK = (
    "c_attempt c_nth c_begun c_artifact_id c_position c_kind c_media_type c_filename c_content c_blob_id c_size_bytes "
    "c_metadata"
)
_RESTORED = "r_attempt r_nth r_artifact_id r_kept"
NAMES = f"{_ARTIFACT} {_CHUNK} {_RESTORED}"


def bind(bound: dict[str, list[Any]], item: Write, sums: Sums) -> None:
    """Binds the artifacts of a write: the parts of every record, and for each artifact one row, as the last leaves it.

    One row may not be written twice in a statement.
    """
    begun: dict[str, int] = {}
    for nth, record in _artifacts(item):
        if not record.append:
            begun[record.artifact_id] = nth
        _bind_parts(bound, item.attempt_id, nth, begun=begun.get(record.artifact_id, 0), record=record)
    for artifact_id, (numbers, chain) in _chains(item).items():
        _bind_row(bound, item.attempt_id, numbers, chain, sums.get((item.attempt_id, artifact_id)))


def _artifacts(item: Write) -> list[tuple[int, ArtifactRecord]]:
    """Its records of artifacts, each with its number, from 1."""
    return [(nth, record) for nth, record in enumerate(item.records, 1) if isinstance(record, ArtifactRecord)]


def _chains(item: Write) -> dict[str, tuple[list[int], list[ArtifactRecord]]]:
    """By artifact id, the records of the content that the write leaves it with, and their numbers."""
    chains: dict[str, tuple[list[int], list[ArtifactRecord]]] = {}
    for nth, record in _artifacts(item):
        if not record.append:
            chains.pop(record.artifact_id, None)
        numbers, chain = chains.setdefault(record.artifact_id, ([], []))
        numbers.append(nth)
        chain.append(record)
    return chains


def _bind_row(
    bound: dict[str, list[Any]],
    attempt_id: UUID,
    numbers: list[int],
    chain: list[ArtifactRecord],
    sha256: bytes | None,
) -> None:
    """The row of an artifact after these records of one content."""
    first, last = chain[0], chain[-1]
    keeps_type = first.append or first.kept_generation is not None
    media_type = first.chunks[0].media_type if first.chunks else ""
    metadata: dict[str, Any] = {}
    for record in chain:
        metadata |= record.metadata
    values = (
        attempt_id,
        numbers[-1],
        0 if first.append else numbers[0],
        first.id,
        first.artifact_id,
        first.name,
        first.version,
        first.description,
        "" if keeps_type else media_type or "application/octet-stream",
        last.bytes_before + sum(chunk.size_bytes for chunk in last.chunks),
        first.sha256() if len(chain) == 1 and sha256 is None else sha256,
        json.dumps(metadata),
    )
    append(bound, _ARTIFACT, values)


def _bind_parts(bound: dict[str, list[Any]], attempt_id: UUID, nth: int, *, begun: int, record: ArtifactRecord) -> None:
    for position, chunk in enumerate(record.chunks, record.parts_before):
        metadata = json.dumps(chunk.metadata) if chunk.metadata else None
        about = (attempt_id, nth, begun, record.artifact_id, position, chunk.kind, chunk.media_type, chunk.filename)
        stored = chunk.stored
        where = (None, stored.id, stored.size_bytes) if stored else (chunk.content, None, None)
        append(bound, _CHUNK, (*about, *where, metadata))
    if record.kept_generation is not None:
        append(bound, _RESTORED, (attempt_id, nth, record.artifact_id, record.kept_generation))


def append(bound: dict[str, list[Any]], names: str, values: tuple[Any, ...]) -> None:
    """Appends a value to each of the lists of these names."""
    for name, value in zip(names.split(), values, strict=True):
        bound[name].append(value)
