"""How many bytes the files and artifacts of clients have that may have only so many: counted by the sweep.

Counting at each write would make all of a client's writes wait for each other. So a client may go over its limit by
what comes within :data:`settings.A2A_PRUNE_S`; and what its tasks make is counted, but never refused.
"""

from __future__ import annotations

from django.db import connection

# A content that two of its tasks have counts twice: what one may keep says nothing of what others share.
COUNT = """
UPDATE tasks_app_client client SET stored_bytes = (
    SELECT COALESCE(sum(artifact.size_bytes), 0) FROM tasks_app_task task
    JOIN artifacts_app_artifact artifact ON artifact.task_id = task.id WHERE task.client_id = client.id
) + (
    SELECT COALESCE(sum(blob.size_bytes), 0) FROM tasks_app_task task
    JOIN artifacts_app_messagefile file ON file.task_id = task.id
    JOIN artifacts_app_blob blob ON blob.id = file.blob_id WHERE task.client_id = client.id
) + (
    SELECT COALESCE(sum(blob.size_bytes), 0) FROM artifacts_app_upload upload
    JOIN artifacts_app_blob blob ON blob.id = upload.blob_id WHERE upload.client_id = client.id
)
WHERE max_storage_bytes IS NOT NULL
"""


def count() -> None:
    """Counts for every client with a limit."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT)
