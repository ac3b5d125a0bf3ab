"""The peer of the drain benchmark: Celery with django-celery-results, as most Django projects run it."""

from __future__ import annotations

import os

import environ
from celery import Celery
from django.conf import settings

env = environ.Env()
if not settings.configured:
    settings.configure(
        SECRET_KEY="benchmark",
        DATABASES={"default": env.db_url("DATABASE_URL")},
        INSTALLED_APPS=["django.contrib.contenttypes", "django_celery_results"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        CELERY_CACHE_BACKEND="django-cache",
    )
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.celery_results")

import django

django.setup()

app = Celery("peer", broker=os.environ.get("A2A_BROKER_URL"))
app.conf.update(
    result_backend="django-db",
    result_extended=True,
    task_track_started=True,
    task_default_queue="benchmark.peer",
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(number: int) -> str:
    return f"done {number}"
