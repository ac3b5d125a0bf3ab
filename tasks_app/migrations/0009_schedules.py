"""Schedules of recurring tasks, and the ledger of their fires."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_celery_beat", "0019_alter_periodictasks_options"),
        ("tasks_app", "0008_batch_push"),
    ]

    operations = [
        migrations.CreateModel(
            name="Schedule",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=128)),
                ("task", models.JSONField()),
                (
                    "overlap",
                    models.CharField(
                        choices=[("skip", "Skip"), ("queue", "Queue"), ("cancel", "Cancel")],
                        default="skip",
                        max_length=8,
                    ),
                ),
                (
                    "catch_up",
                    models.CharField(
                        choices=[("none", "None"), ("last", "Last"), ("all", "All")], default="last", max_length=8
                    ),
                ),
                ("jitter_s", models.FloatField(default=0.0)),
                ("paused_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("is_declared", models.BooleanField(default=False, editable=False)),
                ("next_at", models.DateTimeField(editable=False, null=True)),
                ("created_at", models.DateTimeField(editable=False)),
                (
                    "client",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="schedules",
                        to="tasks_app.client",
                    ),
                ),
                (
                    "clocked",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="django_celery_beat.clockedschedule",
                    ),
                ),
                (
                    "crontab",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="django_celery_beat.crontabschedule",
                    ),
                ),
                (
                    "interval",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="django_celery_beat.intervalschedule",
                    ),
                ),
                (
                    "solar",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="django_celery_beat.solarschedule",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Fire",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("started", "Started"),
                            ("skipped", "Skipped"),
                            ("queued", "Queued"),
                            ("missed", "Missed"),
                            ("failed", "Failed"),
                        ],
                        max_length=8,
                    ),
                ),
                ("is_open", models.BooleanField(default=False)),
                ("is_manual", models.BooleanField(default=False)),
                ("reason", models.TextField(blank=True)),
                ("created_at", models.DateTimeField()),
                (
                    "task",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tasks_app.task",
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="fires",
                        to="tasks_app.schedule",
                    ),
                ),
            ],
            options={
                "ordering": ["-at", "-id"],
            },
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                models.F("next_at"), condition=models.Q(("paused_at__isnull", True)), name="schedule_due_idx"
            ),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.UniqueConstraint(fields=("client", "name"), name="schedule_name_once"),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("jitter_s__gte", 0.0), ("jitter_s__lte", 86400.0)), name="schedule_jitter_in_a_day"
            ),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("clocked__isnull", True),
                        ("crontab__isnull", False),
                        ("interval__isnull", True),
                        ("solar__isnull", True),
                    ),
                    models.Q(
                        ("clocked__isnull", True),
                        ("crontab__isnull", True),
                        ("interval__isnull", False),
                        ("solar__isnull", True),
                    ),
                    models.Q(
                        ("clocked__isnull", True),
                        ("crontab__isnull", True),
                        ("interval__isnull", True),
                        ("solar__isnull", False),
                    ),
                    models.Q(
                        ("clocked__isnull", False),
                        ("crontab__isnull", True),
                        ("interval__isnull", True),
                        ("solar__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="schedule_of_one_kind",
            ),
        ),
        migrations.AddIndex(
            model_name="fire",
            index=models.Index(models.F("task"), condition=models.Q(("task__isnull", False)), name="fire_task_idx"),
        ),
        migrations.AddIndex(
            model_name="fire",
            index=models.Index(models.F("schedule"), condition=models.Q(("is_open", True)), name="fire_open_idx"),
        ),
        migrations.AddIndex(
            model_name="fire",
            index=models.Index(
                models.F("schedule"), models.F("at"), condition=models.Q(("outcome", "queued")), name="fire_queued_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="fire",
            index=models.Index(
                models.OrderBy(models.F("at"), descending=True),
                condition=models.Q(("task__isnull", True)),
                name="fire_old_idx",
            ),
        ),
        migrations.AddConstraint(
            model_name="fire",
            constraint=models.UniqueConstraint(fields=("schedule", "at", "is_manual"), name="fire_once"),
        ),
        migrations.AddConstraint(
            model_name="fire",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("outcome", "started"), models.Q(("is_open", False), ("task__isnull", True)), _connector="OR"
                ),
                name="fire_started_with_a_task",
            ),
        ),
    ]
