"""Files that clients send by themselves, and versions of artifacts of one name."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("artifacts_app", "0003_blobs"),
    ]

    operations = [
        migrations.AddField(
            model_name="artifact",
            name="version",
            field=models.PositiveIntegerField(db_default=1, default=1),
        ),
        migrations.CreateModel(
            name="Upload",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("client_id", models.BigIntegerField(db_index=True)),
                ("filename", models.CharField(blank=True, max_length=256)),
                ("media_type", models.CharField(max_length=128)),
                ("created_at", models.DateTimeField(db_index=True)),
                (
                    "blob",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="uploads", to="artifacts_app.blob"
                    ),
                ),
            ],
        ),
    ]
