"""The app of tasks: loads the agents once models are ready."""

from django.apps import AppConfig
from django.conf import settings


class TasksConfig(AppConfig):
    name = "tasks_app"
    verbose_name = "Tasks"

    def ready(self) -> None:
        from tasks_app import agents, checks  # noqa: F401 (registers the checks)
        from tasks_app.schedules import changes

        agents.load(settings.A2A_AGENTS)
        changes.follow()
