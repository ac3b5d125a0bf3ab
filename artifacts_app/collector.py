"""The collector: deletes the bytes of blobs that nothing names, and looks whether rows and bytes agree.

A blob is deleted by a constraint's leave: what names one names its row, so that a row which something came to name
meanwhile stays. Its bytes go after it, by their name, which no other blob ever has.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from artifacts_app import blobs
from artifacts_app.blobs import storage_of
from artifacts_app.models import ArtifactChunk, Blob, BlobRemoval, MessageFile, Upload

log = logging.getLogger(__name__)
#: At most so many at a time, and so many times in a run.
BATCH = 500
BATCHES_MAX = 20

_NAMED = """(EXISTS (SELECT FROM artifacts_app_artifactchunk WHERE blob_id = blob.id)
             OR EXISTS (SELECT FROM artifacts_app_messagefile WHERE blob_id = blob.id)
             OR EXISTS (SELECT FROM artifacts_app_upload WHERE blob_id = blob.id))"""
DUE = """
SELECT id, collect_at FROM artifacts_app_blob WHERE collect_at <= statement_timestamp()
ORDER BY collect_at LIMIT %(limit)s
"""
# Only as it was seen: whoever takes away what names it meanwhile sets the time anew.
SETTLE = f"""
WITH locked AS (
    SELECT blob.id FROM artifacts_app_blob blob
    JOIN unnest(%(id)s::uuid[], %(collect_at)s::timestamptz[]) AS seen(id, collect_at)
      ON blob.id = seen.id AND blob.collect_at = seen.collect_at
    ORDER BY blob.id FOR NO KEY UPDATE OF blob
)
UPDATE artifacts_app_blob blob SET collect_at = NULL FROM locked
WHERE blob.id = locked.id AND blob.stored_at IS NOT NULL AND {_NAMED}
"""  # noqa: S608 (only constants are put in)
REMOVE = f"""
WITH locked AS (
    SELECT id FROM artifacts_app_blob
    WHERE id = ANY(%(id)s::uuid[]) AND collect_at <= statement_timestamp() ORDER BY id FOR UPDATE
), gone AS (
    DELETE FROM artifacts_app_blob blob USING locked WHERE blob.id = locked.id AND NOT {_NAMED}
    RETURNING blob.id, blob.storage
)
INSERT INTO artifacts_app_blobremoval (id, storage, created_at) SELECT id, storage, now() FROM gone
"""  # noqa: S608


@dataclass(slots=True, kw_only=True)
class Report:
    """Whether rows and bytes agree; lists of blobs' ids, or of names in a storage."""

    blobs: int = 0
    size_bytes: int = 0
    #: Rows whose bytes are not there, or not all of them.
    without_bytes: list[UUID] = field(default_factory=list)
    #: Rows of which nobody can say: by place, how many.
    out_of_reach: Counter[str] = field(default_factory=Counter)
    #: Bytes that no row speaks of.
    without_row: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return not self.without_bytes and not self.without_row and not self.out_of_reach


def collect() -> int:
    """Deletes blobs that nothing names, and bytes that are to go; how many went. What is left goes next time."""
    for _ in range(BATCHES_MAX):
        with connection.cursor() as cursor:
            cursor.execute(DUE, {"limit": BATCH})
            seen: list[tuple[UUID, datetime]] = cursor.fetchall()
        if seen:
            _settle(seen)
            _remove([blob_id for blob_id, _ in seen])
        if len(seen) < BATCH:
            break
    return sum(map(_delete_at, settings.A2A_ARTIFACT_STORAGE))


def verify(*, delete: bool = False) -> Report:
    """Compares all rows with all bytes. ``delete``: bytes without a row are deleted.

    Names are listed before rows are read, and a row is there before its bytes: what is written meanwhile has one.
    """
    report = Report()
    listed = {place: list(_ours(storage_of(place).listdir("")[1])) for place in settings.A2A_ARTIFACT_STORAGE}
    # Whatever place their rows name: a folder may be written in two ways.
    known = {*Blob.objects.values_list("id", flat=True), *BlobRemoval.objects.values_list("id", flat=True)}
    for place, names in listed.items():
        gone = [name for name in names if UUID(name) not in known and storage_of(place).exists(name)]
        report.without_row += [(place, name) for name in gone]
        for name in gone if delete else ():
            storage_of(place).delete(name)
    for blob in Blob.objects.filter(stored_at__isnull=False).iterator():
        report.blobs += 1
        report.size_bytes += blob.size_bytes or 0
        try:
            if not blobs.is_there(blobs.of(blob)):
                report.without_bytes.append(blob.id)
        except OSError:
            report.out_of_reach[blob.storage] += 1
    return report


def look_again() -> int:
    """Has the collector look at every blob that nothing names; how many it did not know of."""
    naming = [model.objects.filter(blob=OuterRef("pk")) for model in (ArtifactChunk, MessageFile, Upload)]
    unnamed = [~Exists(rows) for rows in naming]
    return Blob.objects.filter(*unnamed, collect_at=None).update(collect_at=Now())


def _settle(seen: list[tuple[UUID, datetime]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(SETTLE, {"id": [each[0] for each in seen], "collect_at": [each[1] for each in seen]})


def _remove(blob_ids: list[UUID]) -> None:
    try:
        # The constraints are looked at when it commits: that is for here, whatever encloses it.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(REMOVE, {"id": blob_ids})
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except IntegrityError:
        # Something came to name one of them: the others go without it.
        if len(blob_ids) > 1:
            for half in (blob_ids[: len(blob_ids) // 2], blob_ids[len(blob_ids) // 2 :]):
                _remove(half)


def _delete_at(place: str) -> int:
    """Deletes what is to go from a storage, up to the first that it cannot; how many went."""
    gone = 0
    for removal in BlobRemoval.objects.filter(storage=place).order_by("created_at")[: BATCH * BATCHES_MAX]:
        try:
            storage_of(place).delete(str(removal.id))
        except OSError as error:
            log.warning("nothing can be deleted from %s: %s", place, error)
            break
        gone += BlobRemoval.objects.filter(id=removal.id).delete()[0]
    return gone


def _ours(names: Iterable[str]) -> Iterator[str]:
    """Those that may be of blobs: other files of a folder are none of ours."""
    for name in names:
        with suppress(ValueError):
            if str(UUID(name)) == name:
                yield name
