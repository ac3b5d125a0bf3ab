"""``manage.py ensure_admin NAME``: a superuser with the password in DJANGO_SUPERUSER_PASSWORD; run again, the same."""

from __future__ import annotations

import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Makes the superuser, or sets its password, from DJANGO_SUPERUSER_PASSWORD."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
        if not password:
            raise CommandError("DJANGO_SUPERUSER_PASSWORD: is required")
        defaults = {"is_staff": True, "is_superuser": True}
        user, _ = get_user_model().objects.get_or_create(username=options["name"], defaults=defaults)
        if not user.check_password(password):
            user.set_password(password)
            user.save(update_fields=["password"])
