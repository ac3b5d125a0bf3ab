"""What stands before every name at the broker and at Redis, so that two installations may share them."""

from __future__ import annotations

from django.conf import settings


def prefixed(name: str) -> str:
    """What a queue, an exchange, a channel or a counter is called there."""
    return f"{settings.A2A_QUEUE_PREFIX}{name}"
