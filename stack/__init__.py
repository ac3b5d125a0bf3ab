"""Starts, watches and stops the processes of one machine: the application, its embedded servers, the test services.

It knows commands, ports and signals, and nothing of what the processes do: it imports neither Django nor the other
packages. `python -m stack --help` lists the commands; tests and the demo use `Stack`, `Services`, `ensure_services`.
"""

from __future__ import annotations

from stack.application import PREPARE_COMMANDS, Stack
from stack.errors import AlreadyRunning, MissingService, PortInUse, StackError
from stack.services import Services, ensure_services
from stack.supervision import Stopped

__all__ = [
    "PREPARE_COMMANDS",
    "AlreadyRunning",
    "MissingService",
    "PortInUse",
    "Services",
    "Stack",
    "StackError",
    "Stopped",
    "ensure_services",
]
