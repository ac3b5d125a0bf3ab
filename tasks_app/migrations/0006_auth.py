"""What keys may be used for, when they were, which key took which one's place; whose tokens speak for a client."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import tasks_app.models.api_key


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0005_push"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="last_used_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="apikey",
            name="name",
            field=models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
        migrations.AddField(
            model_name="apikey",
            name="predecessor",
            field=models.OneToOneField(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="successor",
                to="tasks_app.apikey",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=100, validators=[tasks_app.models.api_key.validate_scope]),
                blank=True,
                db_default=[],
                default=list,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="client",
            name="issuer",
            field=models.CharField(blank=True, db_default="", default="", max_length=255),
        ),
        migrations.AddField(
            model_name="client",
            name="subject",
            field=models.CharField(blank=True, db_default="", default="", max_length=255),
        ),
        migrations.AddConstraint(
            model_name="client",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("issuer", ""), ("subject", "")),
                    models.Q(models.Q(("issuer", ""), _negated=True), models.Q(("subject", ""), _negated=True)),
                    _connector="OR",
                ),
                name="client_issuer_iff_subject",
            ),
        ),
        migrations.AddConstraint(
            model_name="client",
            constraint=models.UniqueConstraint(
                condition=models.Q(("issuer", ""), _negated=True),
                fields=("issuer", "subject"),
                name="client_identity_once",
            ),
        ),
    ]
