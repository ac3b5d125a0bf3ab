"""What each broker is told, from ``A2A_BROKER_URL`` and ``A2A_BROKER_OPTIONS``. Pure: the settings import it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

AMQP, REDIS, SQS, MEMORY = "amqp", "redis", "sqs", "memory"
#: The scheme of an address says which broker it is.
SCHEMES = {
    "amqp": AMQP,
    "amqps": AMQP,
    "redis": REDIS,
    "rediss": REDIS,
    "redis+socket": REDIS,
    "sqs": SQS,
    "memory": MEMORY,
}
#: Transport options of kombu, unless ``A2A_BROKER_OPTIONS`` says otherwise.
DEFAULTS: dict[str, dict[str, Any]] = {
    # The publisher waits for the confirms of a whole batch at once.
    AMQP: {"confirm_publish": False},
    REDIS: {"queue_order_strategy": "priority", "visibility_timeout": 86_400, "socket_keepalive": True},
    # Polls follow each other at once after a message, and after ten empty seconds of waiting at the server. The
    # interval may not be 0: a worker without a free slot would look again without a pause.
    SQS: {
        "wait_time_seconds": 10,
        "polling_interval": 0.1,
        "client-config": {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 2}},
    },
    MEMORY: {"polling_interval": 0.01},
}


def kind(url: str) -> str:
    """Which broker the address means; empty for one that is not supported."""
    return SCHEMES.get(urlsplit(url).scheme.lower(), "")


def given(text: str) -> dict[str, Any]:
    """The options that ``A2A_BROKER_OPTIONS`` holds. Raises ValueError with what is wrong with it."""
    if not text:
        return {}
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"it is JSON, but {type(options).__name__} in place of an object")
    return options


def transport_options(url: str, text: str) -> dict[str, Any]:
    """The broker's options. A text that cannot be read counts for nothing: a check (a2a.E013) reports it."""
    try:
        more = given(text)
    except ValueError:
        more = {}
    return {**DEFAULTS.get(kind(url), {}), **more}


def timeouts(url: str, seconds: float) -> dict[str, Any]:
    """Options for a connection that gives up what takes longer than this; SQS has its own in the defaults."""
    if kind(url) == REDIS:
        return {"socket_connect_timeout": seconds, "socket_timeout": seconds}
    if kind(url) == AMQP:
        return {"read_timeout": seconds, "write_timeout": seconds}
    return {}
