"""``manage.py a2a``: the operator's command. What it does lives in modules beside ``commands``."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError

from tasks_app.management.operate import add_commands
from tasks_app.management.printing import USAGE
from tasks_app.management.validate_config import validate_config
from tasks_app.management.validate_queues import AWAY, validate_queues


class Command(BaseCommand):
    help = (
        "Operates the task manager: pauses, cancels, runs again, shows; validates configuration and queues. Exit code:"
        " 0 done or ok, 1 nothing changed, not found or wrong, 2 bad usage, or broker or database away."
    )
    # It runs the checks itself, and must be able to tell what is wrong with them.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--validate-config", action="store_true", help="run all checks, with ids and hints")
        parser.add_argument("--validate-queues", action="store_true", help="declare and inspect every queue")
        add_commands(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        steps = [
            step
            for flag, step in (("validate_config", validate_config), ("validate_queues", validate_queues))
            if options[flag]
        ]
        codes = [step(self.stdout) for step in steps]
        if "step" in options:
            codes.append(self._operate(options))
        if not codes:
            self.stdout.write(self.create_parser("manage.py", "a2a").format_help())
        code = max(codes, default=USAGE)
        if code:
            sys.exit(code)

    def _operate(self, options: dict[str, Any]) -> int:
        try:
            return int(options["step"](self.stdout, options))
        except OperationalError as error:
            self.stderr.write(f"the database cannot be reached: {' '.join(str(error).split())}")
            return AWAY
