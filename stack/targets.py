"""Where the metrics of a running stack are, for `make status` and for Prometheus (`deploy/prometheus.local.yml`)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from stack.envfile import write_private
from stack.ports import LOOPBACK, reachable

_VARIABLES = {
    "web": "A2A_PORT",
    "dispatcher": "A2A_DISPATCHER_METRICS_PORT",
    "worker-cpu": "A2A_CPU_METRICS_PORT",
    "worker-io": "A2A_IO_METRICS_PORT",
    "worker-system": "A2A_SYSTEM_METRICS_PORT",
    "grpc": "A2A_GRPC_METRICS_PORT",
    "flower": "A2A_FLOWER_PORT",
}


def targets(env: Mapping[str, str], processes: Collection[str]) -> dict[str, str]:
    """host:port by process, for those of the processes that export metrics."""
    own = env.get("A2A_METRICS_HOST") or LOOPBACK
    # Flower, and /metrics of web, are for this machine only.
    hosts = {"web": LOOPBACK, "flower": LOOPBACK}
    found = {name: env.get(variable, "0") for name, variable in _VARIABLES.items() if name in processes}
    return {name: f"{hosts.get(name, reachable(own))}:{port}" for name, port in found.items() if port != "0"}


def write_targets(path: Path, found: Mapping[str, str]) -> None:
    """Write them as Prometheus' `file_sd_configs` reads them; it looks again whenever the file changes."""
    entries = [{"targets": [target], "labels": {"job": name}} for name, target in found.items()]
    write_private(path, json.dumps(entries, indent=1), mode=0o644)
