"""How many bytes a client may have stored, and how many it has."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0011_retention"),
    ]

    operations = [
        migrations.AddField(
            model_name="client",
            name="max_storage_bytes",
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="client",
            name="stored_bytes",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
