"""``manage.py a2a --validate-config``: Django's checks and ours, each with its id and hint, and a verdict."""

from __future__ import annotations

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.checks.registry import registry
from django.core.management.base import OutputWrapper


def validate_config(out: OutputWrapper) -> int:
    """Prints what is wrong with the settings; 1 if any of it is an error, else 0.

    Checks of a deployment count as warnings whatever their level: the same settings may be right on a laptop, and
    ``manage.py check --deploy`` is there to be strict.
    """
    found = [message for message in checks.run_checks(databases=list(settings.DATABASES)) if _is_told(message)]
    errors = [message for message in found if message.level >= checks.ERROR]
    warnings = [message for message in found if message.level < checks.ERROR] + _deployment()
    for word, messages in (("error", errors), ("warning", warnings)):
        for message in messages:
            out.write(_lines(word, message))
    out.write(_verdict(len(errors), len(warnings)))
    return 1 if errors else 0


def _deployment() -> list[CheckMessage]:
    made = [message for check in registry.deployment_checks for message in check(app_configs=None, databases=None)]
    return [message for message in made if _is_told(message)]


def _is_told(message: CheckMessage) -> bool:
    return message.level >= checks.WARNING and not message.is_silenced()


def _lines(word: str, message: CheckMessage) -> str:
    subject = f" ({message.obj})" if message.obj is not None else ""
    text = f"{word:<8} {message.id or '-'}: {message.msg}{subject}"
    return f"{text}\n         hint: {message.hint}" if message.hint else text


def _verdict(errors: int, warnings: int) -> str:
    counted = f"{warnings} warning{'' if warnings == 1 else 's'}"
    if errors:
        return f"configuration: {errors} error{'' if errors == 1 else 's'}, {counted}"
    return f"configuration: ok ({counted})" if warnings else "configuration: ok"
