"""The small shell scripts that supervisord runs, one per process.

A script keeps what a command needs (folder, environment, `${VAR:-default}`, `$$`) out of supervisord's configuration,
where `%`, ` ;` and ` #` mean something else. It first records its own pid and start time, then becomes the command.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from honcho.environ import parse_procfile

from stack.errors import StackError

MARKER = "A2A_STACK_RUN"
"""Set in every supervised process to the run folder of its stack: orphans are recognised by it."""

_HEAD = "# Written by `python -m stack` at each start; changes are lost.\n"
_OPEN_FILES = 'ulimit -S -n 65536 2>/dev/null || ulimit -S -n "$(ulimit -H -n)" 2>/dev/null || true\n'


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile by process name, in its order."""
    try:
        return dict(parse_procfile(path.read_text()).processes)
    except (OSError, AssertionError) as error:
        raise StackError(f"{path} cannot be used: {error}") from error


def select(commands: Mapping[str, str], names: Sequence[str] | None) -> dict[str, str]:
    """The commands named, or all; an unknown name is an error that lists the known ones."""
    if names is None:
        return dict(commands)
    unknown = [name for name in names if name not in commands]
    if unknown:
        raise StackError(f"No process {', '.join(unknown)} in the Procfile; it has {', '.join(commands)}.")
    return {name: commands[name] for name in names}


def app_script(command: str, *, folder: Path, pid_file: Path) -> str:
    """A Procfile line as a script: run by /bin/sh in `folder`, with the environment of supervisord."""
    return f"{_HEAD}{_record(pid_file)}{_OPEN_FILES}cd {shlex.quote(str(folder))} || exit 1\nexec {command}\n"


def service_script(command: Sequence[str], *, folder: Path, pid_file: Path, env: Mapping[str, str]) -> str:
    """A service's command as a script: it sees `env`, PATH and a UTF-8 locale, and nothing else of the caller's."""
    given = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **env}
    pairs = " ".join(shlex.quote(f"{name}={value}") for name, value in given.items())
    head = f"{_HEAD}{_record(pid_file)}{_OPEN_FILES}cd {shlex.quote(str(folder))} || exit 1\n"
    return f"{head}exec env -i {pairs} {shlex.join(command)}\n"


def _record(pid_file: Path) -> str:
    """`/proc/<pid>/stat` tells one process from a later one with the same pid; other systems record the pid alone."""
    return f'{{ cat "/proc/$$/stat" 2>/dev/null || echo "$$"; }} > {shlex.quote(str(pid_file))}\n'
