"""``manage.py a2a``: the operator's command. What each flag does lives in a module of its own beside ``commands``."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tasks_app.management.validate_config import validate_config
from tasks_app.management.validate_queues import validate_queues

USAGE = 2


class Command(BaseCommand):
    help = "Validates the configuration and the broker's queues. Exit code: 0 ok, 1 wrong, 2 broker away or bad usage."
    # It runs the checks itself, and must be able to tell what is wrong with them.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--validate-config", action="store_true", help="run all checks, with ids and hints")
        parser.add_argument("--validate-queues", action="store_true", help="declare and inspect every queue")

    def handle(self, *args: Any, **options: Any) -> None:
        steps = [
            step
            for flag, step in (("validate_config", validate_config), ("validate_queues", validate_queues))
            if options[flag]
        ]
        if not steps:
            self.stdout.write(self.create_parser("manage.py", "a2a").format_help())
        code = max((step(self.stdout) for step in steps), default=USAGE)
        if code:
            sys.exit(code)
