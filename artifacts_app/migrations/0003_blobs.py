"""Contents that stand in a storage, and the files of messages."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("artifacts_app", "0002_chunks"),
    ]

    operations = [
        migrations.CreateModel(
            name="Blob",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("storage", models.CharField(max_length=500)),
                ("key_id", models.CharField(blank=True, max_length=16)),
                ("sha256", models.BinaryField(max_length=32, null=True)),
                ("size_bytes", models.BigIntegerField(null=True)),
                ("stored_at", models.DateTimeField(null=True)),
                ("collect_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("collect_at__isnull", False)),
                        fields=["collect_at"],
                        name="blob_collect_idx",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("stored_at__isnull", False)),
                        fields=("sha256", "storage", "key_id"),
                        name="blob_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("stored_at", None),
                            models.Q(("sha256__isnull", False), ("size_bytes__isnull", False)),
                            _connector="OR",
                        ),
                        name="blob_known_when_stored",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BlobPiece",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "name", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                ("number", models.IntegerField()),
                ("content", models.BinaryField()),
            ],
        ),
        migrations.CreateModel(
            name="BlobRemoval",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("storage", models.CharField(max_length=500)),
                ("created_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="MessageFile",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "task_id", "blob_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("task_id", models.UUIDField(editable=False)),
                (
                    "blob",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="files", to="artifacts_app.blob"
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="artifactchunk",
            name="size_bytes",
            field=models.BigIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name="artifactchunk",
            name="content",
            field=models.BinaryField(null=True),
        ),
        migrations.AddField(
            model_name="artifactchunk",
            name="blob",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="chunks",
                to="artifacts_app.blob",
            ),
        ),
        migrations.AddIndex(
            model_name="artifactchunk",
            index=models.Index(condition=models.Q(("blob__isnull", False)), fields=["blob"], name="chunk_of_blob_idx"),
        ),
        migrations.AddConstraint(
            model_name="artifactchunk",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("blob", None), ("content__isnull", False), ("size_bytes", None)),
                    models.Q(("blob__isnull", False), ("content", None), ("size_bytes__isnull", False)),
                    _connector="OR",
                ),
                name="chunk_here_or_in_a_blob",
            ),
        ),
        # What is read in slices is not compressed: a slice would be found by reading all that stands before it.
        migrations.RunSQL(
            "ALTER TABLE artifacts_app_blobpiece ALTER COLUMN content SET STORAGE EXTERNAL", migrations.RunSQL.noop
        ),
    ]
