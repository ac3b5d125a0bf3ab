"""How long each agent keeps what has ended: found by agent and state."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0010_dependencies"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("agent"),
                models.F("status"),
                models.F("completed_at"),
                condition=models.Q(("completed_at__isnull", False)),
                name="task_agent_ended_idx",
            ),
        ),
    ]
