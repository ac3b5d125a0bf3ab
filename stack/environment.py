"""What the application's processes find in their environment, and which servers must be embedded for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from stack.data.redis import broker_url

POSTGRESQL, REDIS, BROKER = "postgresql", "redis", "broker"
VARIABLES = {POSTGRESQL: "DATABASE_URL", REDIS: "REDIS_URL", BROKER: "A2A_BROKER_URL"}
PORTS = {
    "A2A_FLOWER_PORT": 5555,
    "A2A_DISPATCHER_METRICS_PORT": 8011,
    "A2A_CPU_METRICS_PORT": 8012,
    "A2A_IO_METRICS_PORT": 8013,
    "A2A_SYSTEM_METRICS_PORT": 8014,
    "A2A_GRPC_METRICS_PORT": 8015,
}
"""Where processes other than web listen, unless the environment says otherwise or somebody else listens there."""
OPTIONAL = {"grpc": "A2A_GRPC_PORT"}
"""Processes of the Procfile that are started only where their variable is set, or by name."""
KEPT = (
    "A2A_OPEN_MODE",
    "A2A_SECRET_KEY",
    "DATABASE_URL",
    "A2A_BROKER_URL",
    "REDIS_URL",
    "A2A_PORT",
    "A2A_GRPC_PORT",
    "A2A_METRICS_HOST",
    *PORTS,
)
"""What `.a2a/run/env` tells a `manage.py` that is run by hand."""


def embedded_roles(env: Mapping[str, str], asked: bool | Collection[str] | None) -> frozenset[str]:
    """The roles to embed: `postgresql`, `redis`, `broker` (Celery's, on the same Redis).

    None embeds what `env` has no URL for, True everything, False nothing; a collection is taken as it is, and its
    roles win over the URLs in `env`.
    """
    if asked is None:
        return frozenset(role for role, variable in VARIABLES.items() if not env.get(variable))
    if isinstance(asked, bool):
        return frozenset(VARIABLES if asked else ())
    if unknown := set(asked) - VARIABLES.keys():
        raise ValueError(f"unknown roles to embed: {sorted(unknown)}; there are {sorted(VARIABLES)}")
    return frozenset(asked)


def servers_for(roles: Collection[str], env: Mapping[str, str]) -> list[str]:
    """The servers to start: a broker needs a Redis of ours unless the environment names one."""
    wanted = [POSTGRESQL] if POSTGRESQL in roles else []
    if REDIS in roles or (BROKER in roles and not env.get("REDIS_URL")):
        wanted.append(REDIS)
    return wanted


def application_env(
    given: Mapping[str, str],
    urls: Mapping[str, str],
    *,
    roles: Collection[str],
    port: int,
    ports: Mapping[str, int],
    secret: str,
) -> dict[str, str]:
    """`given` with the embedded servers' `urls` and everything else that the processes need."""
    env = {**given, **urls}
    if BROKER in roles:
        env["A2A_BROKER_URL"] = broker_url(env["REDIS_URL"])
    env.setdefault("A2A_OPEN_MODE", "1")
    env.setdefault("A2A_SECRET_KEY", secret)
    env |= {"A2A_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    env |= {name: str(number) for name, number in ports.items()}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    return env
