"""Where state lives, and who may read it.

All state is in one ignored folder, `.a2a/`. PostgreSQL refuses to run as root, so under root the services run as
`nobody`; where `nobody` cannot reach the state folder (a clone below a 0700 home), their data and binaries live in a
folder of `/var/tmp` to which the state folder holds a symlink.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stack.errors import StackError

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE_LINK = "outside"
# sun_path holds 108 bytes on Linux, 104 on macOS; supervisord appends its pid while it binds.
MAX_SOCKET_PATH = 99
SUPERVISOR_SOCKET_MARGIN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The unprivileged account that the services run as when we are root."""

    name: str
    uid: int
    gid: int


def default_state_dir() -> Path:
    """The folder `.a2a/` of this repository, or `A2A_STATE_DIR`."""
    return Path(os.environ.get("A2A_STATE_DIR") or ROOT / ".a2a").absolute()


def service_account() -> Account | None:
    """`nobody` when we are root, None otherwise (the services then run as ourselves)."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise StackError("As root the services run as the user `nobody`, which this machine does not have.") from None
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def is_open_to_others(path: Path) -> bool:
    """Whether another user can reach `path`: every folder on the way is searchable by others."""
    existing = [p for p in (path, *path.parents) if p.is_dir()]
    return all(p.stat().st_mode & stat.S_IXOTH for p in existing)


def socket_fits(path: Path, *, margin: int = 0) -> bool:
    """Whether a unix socket can be bound at `path`."""
    return len(os.fsencode(path)) + margin <= MAX_SOCKET_PATH


def make_dir(path: Path, *, mode: int, account: Account | None = None) -> Path:
    """Create `path` with exactly `mode`, owned by `account` when one is given."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    return path


def open_state(state_dir: Path) -> Path:
    """Create the state folder: searchable by others (the services' accounts), listable by the owner only."""
    return make_dir(state_dir, mode=0o711).resolve()


def outside_dir(state_dir: Path) -> Path:
    """The name of this state folder's room in `/var/tmp`; nothing is created."""
    digest = hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:10]
    return Path("/var/tmp") / f"a2a-{os.geteuid()}-{digest}"  # noqa: S108 - ownership is checked by make_outside


def make_outside(state_dir: Path) -> Path:
    """Create that room and the symlink to it; a folder that somebody else put there is refused."""
    room = outside_dir(state_dir)
    room.mkdir(mode=0o711, exist_ok=True)
    found = room.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StackError(f"{room} exists and is not ours; remove it.")
    room.chmod(0o711)
    link = state_dir / OUTSIDE_LINK
    if not link.is_symlink() or link.readlink() != room:
        link.unlink(missing_ok=True)
        link.symlink_to(room)
    return room


def data_root(state_dir: Path, account: Account | None) -> Path:
    """Where the services' data lives: the state folder, or the room outside where `account` cannot reach it."""
    if account is None or is_open_to_others(state_dir):
        return state_dir
    return make_outside(state_dir)


def control_socket(run_dir: Path, state_dir: Path) -> Path:
    """Where supervisord listens; a path too long for a socket is replaced by one in the room outside."""
    path = run_dir / "supervisor.sock"
    if socket_fits(path, margin=SUPERVISOR_SOCKET_MARGIN):
        return path
    room = make_dir(make_outside(state_dir) / "control", mode=0o700)
    return room / ("-".join(run_dir.relative_to(state_dir).parts) + ".sock")


def remove_tree(path: Path) -> None:
    """Delete a folder of ours; a symlink to a folder is removed itself, never followed."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextmanager
def locked(folder: Path, *, timeout_s: float = 180.0) -> Iterator[None]:
    """Hold the folder's lock file, so that two commands never start or stop the same processes at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(f"Another command has held {folder / 'lock'} for {timeout_s:.0f} s.") from None
                time.sleep(0.05)
        yield
