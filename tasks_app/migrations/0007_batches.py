"""Batches, and the places that tasks hold in them."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0006_auth"),
    ]

    operations = [
        migrations.CreateModel(
            name="Batch",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(blank=True, max_length=256)),
                ("key", models.CharField(editable=False, max_length=256)),
                ("digest", models.BinaryField(max_length=32)),
                ("metadata", models.JSONField(default=dict)),
                ("size", models.PositiveIntegerField()),
                ("refused", models.JSONField(default=list)),
                ("pruned", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField()),
                ("completed_at", models.DateTimeField(null=True)),
                ("counts", models.JSONField(null=True)),
                ("generation", models.IntegerField(default=0)),
                (
                    "client",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="batches",
                        to="tasks_app.client",
                    ),
                ),
            ],
            options={"verbose_name_plural": "batches"},
        ),
        migrations.RemoveIndex(model_name="task", name="task_batch_idx"),
        # No task was in one: nothing could make them.
        migrations.RenameField(model_name="task", old_name="batch_id", new_name="batch"),
        migrations.AlterField(
            model_name="task",
            name="batch",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="tasks",
                to="tasks_app.batch",
            ),
        ),
        migrations.AddField(
            model_name="task", name="batch_index", field=models.IntegerField(editable=False, null=True)
        ),
        migrations.AddIndex(
            model_name="batch",
            index=models.Index(
                models.F("client"), models.OrderBy(models.F("id"), descending=True), name="batch_client_newest_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="batch",
            index=models.Index(
                models.F("id"), condition=models.Q(("completed_at__isnull", True)), name="batch_open_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("batch"),
                condition=models.Q(("batch_index__isnull", False), ("completed_at__isnull", True)),
                name="task_batch_open_idx",
            ),
        ),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.UniqueConstraint(
                condition=models.Q(("key", ""), _negated=True), fields=("client", "key"), name="batch_key_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("completed_at__isnull", True), ("counts__isnull", True)),
                    models.Q(("completed_at__isnull", False), ("counts__isnull", False)),
                    _connector="OR",
                ),
                name="batch_counts_iff_completed",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.UniqueConstraint(
                condition=models.Q(("batch__isnull", False)),
                fields=("batch", "batch_index"),
                name="task_batch_place_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("batch_index__isnull", True),
                    models.Q(("batch__isnull", False), ("batch_index__gte", 0)),
                    _connector="OR",
                ),
                name="task_batch_place_in_batch",
            ),
        ),
    ]
