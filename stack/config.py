"""supervisord's configuration, generated from a list of programs. Pure: text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.errors import StackError

APP, DATA, HELPER = "app", "data", "helper"
# supervisord stops groups from the highest priority down: what is used goes after what uses it.
_PRIORITY = {HELPER: 1, DATA: 10, APP: 100}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One supervised process: `/bin/sh <script>`, as `user` (None: as ourselves)."""

    name: str
    script: Path
    pid_file: Path
    group: str = APP
    user: str | None = None
    stop_signal: str = "TERM"
    stop_wait_s: int = 10
    autostart: bool = False
    autorestart: bool = True


def supervisord_config(programs: Sequence[Program], *, socket: Path, log_dir: Path, user: str | None = None) -> str:
    """The whole file. Processes that ignore their stop signal are killed with their process group."""
    sections = [_daemon_section(socket=socket, log_dir=log_dir, user=user)]
    sections += [_program_section(program, log_dir=log_dir) for program in programs]
    for group in dict.fromkeys(program.group for program in programs):
        names = ",".join(program.name for program in programs if program.group == group)
        sections.append(f"[group:{group}]\nprograms={names}\npriority={_PRIORITY[group]}\n")
    return "\n".join(sections)


def escaped(value: Path | str) -> str:
    """A value as supervisord reads it back: `%` doubled. What its format cannot hold is refused."""
    text = str(value)
    if any(bad in text for bad in ('"', "\\", "\n", " ;", " #", "\t;", "\t#")):
        raise StackError(f"supervisord cannot use a path with quotes, backslashes, ` ;` or ` #`: {text!r}")
    return text.replace("%", "%%")


def _daemon_section(*, socket: Path, log_dir: Path, user: str | None) -> str:
    lines = [
        "[supervisord]",
        f"logfile={escaped(log_dir / 'supervisord.log')}",
        "logfile_maxbytes=2MB",
        "logfile_backups=1",
        "silent=true",
        "pidfile=%(here)s/supervisord.pid",
        f"childlogdir={escaped(log_dir)}",
        *([f"user={user}"] if user else []),
        "",
        "[unix_http_server]",
        f"file={escaped(socket)}",
        "chmod=0700",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    return "\n".join(lines) + "\n"


def _program_section(program: Program, *, log_dir: Path) -> str:
    """With autorestart a failing process is tried again ever more slowly; without, its death is simply seen."""
    restarts = program.autorestart
    lines = [
        f"[program:{program.name}]",
        f'command=/bin/sh "{escaped(program.script)}"',
        *([f"user={program.user}"] if program.user else []),
        f"autostart={str(program.autostart).lower()}",
        f"autorestart={str(restarts).lower()}",
        f"startsecs={1 if restarts else 0}",
        f"startretries={1000 if restarts else 0}",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_wait_s}",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={escaped(log_dir / (program.name + '.log'))}",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=2",
    ]
    return "\n".join(lines) + "\n"
