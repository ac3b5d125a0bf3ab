"""KEY=VALUE files and generated secrets: read, written so that only the owner reads them."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path


def read_env(path: Path) -> dict[str, str]:
    """The pairs of a KEY=VALUE file (quotes and a leading `export` allowed); empty when there is no such file."""
    if not path.is_file():
        return {}
    pairs: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            pairs[name.strip()] = _unquoted(value.strip())
    return pairs


def write_env(path: Path, env: Mapping[str, str]) -> None:
    """Write `env` so that both a shell and django-environ can read it; mode 0600."""
    write_private(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items()))


def write_private(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace `path` in one step by a file with `text` and `mode`."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    draft.chmod(mode)
    draft.replace(path)


def kept_secret(path: Path) -> str:
    """The secret in `path`, generated at the first call."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, secrets.token_hex(24))
    return path.read_text().strip()


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value
