"""The app of artifacts."""

from django.apps import AppConfig


class ArtifactsConfig(AppConfig):
    name = "artifacts_app"
    verbose_name = "Artifacts"
