"""Environments of clients that are not ours: each is made once for its lock file, below ``.a2a/clients``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stack.paths import default_state_dir

CLIENTS = Path(__file__).parent / "clients"
#: What the newest client in JavaScript needs.
NODE_MAJOR = 20


def printed(interpreter: Path, script: Path, *arguments: str) -> dict[str, Any]:
    """What a client's script saw, which it prints as JSON. Fails the test if the script fails."""
    done = subprocess.run([interpreter, script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def python(requirements: Path) -> Path:
    """The interpreter of an environment with exactly these packages."""

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        # The lock file is whole, and leaves out what a client asks for and does not need.
        options = ["-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        pip = [str(folder / "bin" / "python"), "-m", "pip"]
        subprocess.run([*pip, "install", *options, "-r", str(requirements)], check=True)

    return _made(requirements.stem, requirements, make) / "bin" / "python"


def node_modules(project: Path) -> Path:
    """A folder in which Node finds exactly the packages of this project."""

    def make(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(project / name, folder)
        npm = node().parent / "npm"
        path = os.pathsep.join([str(npm.parent), os.environ["PATH"]])
        subprocess.run([npm, "ci", "--silent"], cwd=folder, env={**os.environ, "PATH": path}, check=True)

    return _made(project.name, project / "package-lock.json", make)


def node() -> Path:
    """A Node that is new enough, with npm beside it: the system's, or else that of a package."""
    system = shutil.which("node")
    if system and Path(system).with_name("npm").exists() and _major(system) >= NODE_MAJOR:
        return Path(system)
    return python(CLIENTS / "requirements-node.txt").with_name("node")


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.removeprefix("v").partition(".")[0])


def _made(name: str, lock: Path, make: Callable[[Path], None]) -> Path:
    """The folder for what is locked, which ``make`` fills unless that was done before."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    folder = default_state_dir() / "clients" / f"{name}-{digest}"
    ready = folder / "ready"
    if not ready.exists():
        make(folder)
        ready.touch()
    return folder
