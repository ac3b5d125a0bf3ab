"""Deleting what the stack wrote. Nothing is deleted under a running process."""

from __future__ import annotations

from pathlib import Path

from stack.application import Stack
from stack.errors import StackError
from stack.paths import locked, outside_dir, remove_tree
from stack.services import Services


def reset(state_dir: Path, *, everything: bool = False) -> list[Path]:
    """Delete the embedded data, logs and run files; with `everything` the whole state. Returns what was deleted."""
    stack, services = Stack(state_dir), Services(state_dir)
    if stack.supervisor.is_alive() or stack.supervisor.orphans():
        raise StackError("The stack is running; stop it first with: python -m stack down")
    if everything and (services.supervisor.is_alive() or services.supervisor.orphans()):
        raise StackError("The services are running; stop them first with: python -m stack services --stop")
    with locked(stack.state_dir):
        deleted = [path for path in _doomed(stack.state_dir, everything) if path.is_symlink() or path.exists()]
        for path in deleted:
            remove_tree(path) if path.is_dir() or path.is_symlink() else path.unlink()
    return deleted


def _doomed(state: Path, everything: bool) -> list[Path]:
    room = outside_dir(state)
    if everything:
        return [room, *(path for path in sorted(state.iterdir()) if path.name != "lock")]
    return [room / "embedded", *(state / name for name in ("embedded", "logs", "run", "ports.json"))]
