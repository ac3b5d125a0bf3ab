"""The composition root: settings, routes and the Celery app. Nobody imports it but the processes themselves."""

from a2a_project.celery import app as celery_app

__all__ = ["celery_app"]
