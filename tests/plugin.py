"""Loaded before Django's settings: points them at the services that ``make services`` started."""

import os

from stack.paths import default_state_dir

_ENV = default_state_dir() / "services" / "env"

os.environ.setdefault("A2A_OPEN_MODE", "1")
if _ENV.is_file():
    for line in _ENV.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator:
            os.environ.setdefault(name, value)
