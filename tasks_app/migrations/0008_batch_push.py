"""A batch may have a webhook too."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0007_batches"),
    ]

    operations = [
        migrations.AddField(
            model_name="pushconfig",
            name="batch",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="push_configs",
                to="tasks_app.batch",
            ),
        ),
        migrations.AddField(
            model_name="pushdelivery",
            name="batch",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tasks_app.batch",
            ),
        ),
        migrations.AlterField(
            model_name="pushconfig",
            name="task",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="push_configs",
                to="tasks_app.task",
            ),
        ),
        migrations.AlterField(
            model_name="pushdelivery",
            name="task",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tasks_app.task",
            ),
        ),
        migrations.AddIndex(
            model_name="pushdelivery",
            index=models.Index(
                models.F("batch"), condition=models.Q(("batch__isnull", False)), name="push_delivery_batch_idx"
            ),
        ),
        migrations.AddConstraint(
            model_name="pushconfig",
            constraint=models.UniqueConstraint(
                condition=models.Q(("batch__isnull", False)), fields=("batch",), name="push_batch_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="pushconfig",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("batch__isnull", True), ("task__isnull", False)),
                    models.Q(("batch__isnull", False), ("task__isnull", True)),
                    _connector="OR",
                ),
                name="push_of_task_or_batch",
            ),
        ),
    ]
