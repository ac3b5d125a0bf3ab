"""Files that clients send by themselves, to be named in messages: kept for a while, and longer by what names them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import connection
from django.utils import timezone

from artifacts_app.blobs import GRACE, Stored
from artifacts_app.models import Upload

#: At most so many are forgotten at a time.
BATCH = 1000

FORGET = """
WITH old AS (
    SELECT id FROM artifacts_app_upload WHERE created_at < now() - make_interval(secs => %(age_s)s)
    ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM artifacts_app_upload WHERE id IN (SELECT id FROM old) RETURNING blob_id
), named AS (
    SELECT id FROM artifacts_app_blob WHERE id IN (SELECT blob_id FROM gone) ORDER BY id FOR NO KEY UPDATE
), blob AS (
    UPDATE artifacts_app_blob SET collect_at = now() + make_interval(secs => %(grace_s)s)
    WHERE id IN (SELECT id FROM named)
)
SELECT count(*) FROM gone
"""


def keep(stored: Stored, *, client_id: int, filename: str, media_type: str) -> Upload:
    """The file, which its client may name from now on."""
    kept = Upload(blob_id=stored.id, client_id=client_id, filename=filename, media_type=media_type)
    kept.created_at = timezone.now()
    kept.save(force_insert=True)
    return kept


def of(upload_id: UUID, *, client_id: int) -> Upload | None:
    """The client's file, with its blob."""
    return Upload.objects.select_related("blob").filter(id=upload_id, client_id=client_id).first()


def forget(age: timedelta) -> int:
    """Forgets files that were sent so long ago; how many. What a task names stays with it."""
    with connection.cursor() as cursor:
        grace_s = GRACE.total_seconds()
        cursor.execute(FORGET, {"age_s": age.total_seconds(), "limit": BATCH, "grace_s": grace_s})
        return int(cursor.fetchone()[0])
