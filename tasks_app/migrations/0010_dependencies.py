"""Tasks that need others: they are not admitted before those have completed."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0009_schedules"),
    ]

    operations = [
        migrations.AddField(
            model_name="task", name="deps_left", field=models.PositiveIntegerField(db_default=0, default=0)
        ),
        migrations.RemoveIndex(model_name="task", name="task_dispatch_idx"),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("lane"),
                models.F("priority"),
                models.F("agent"),
                models.F("client"),
                models.F("run_after"),
                models.F("id"),
                condition=models.Q(("admitted_at__isnull", True), ("deps_left", 0), ("status", "pending")),
                name="task_dispatch_idx",
            ),
        ),
        migrations.RemoveConstraint(model_name="task", name="task_admitted_only_pending"),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("admitted_at__isnull", True),
                    models.Q(("deps_left", 0), ("status", "pending")),
                    _connector="OR",
                ),
                name="task_admitted_only_pending",
            ),
        ),
        migrations.CreateModel(
            name="TaskDependency",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "task_id", "needs_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="dependencies",
                        to="tasks_app.task",
                    ),
                ),
                (
                    "needs",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tasks_app.task",
                    ),
                ),
                ("settled_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        models.F("needs"),
                        condition=models.Q(("settled_at__isnull", True)),
                        name="dependency_open_idx",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("task", models.F("needs")), _negated=True), name="dependency_of_another"
                    )
                ],
            },
        ),
    ]
