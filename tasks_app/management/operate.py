"""``manage.py a2a pause|resume|queues|workers|cancel|rerun|priority|…``: what operators do, through ``control``.

Exit codes: 0 done, 1 nothing changed or not found, 2 wrong usage.
"""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser, OutputWrapper
from rich.table import Table

from tasks_app import control, overview
from tasks_app.control import Scope
from tasks_app.management import archive, batches, keys, storage
from tasks_app.management.printing import DONE, NOTHING, print_table
from tasks_app.models import PushConfig
from tasks_app.push import operate as push
from tasks_app.push.sealing import Unopenable
from tasks_app.status import Priority

BY = "the command line"
Options = Mapping[str, Any]
Step = Callable[[OutputWrapper, Options], int]
#: As many dead webhooks are listed.
DEAD_MAX = 1000


def add_commands(parser: CommandParser) -> None:
    """Adds the subcommands; each leaves the function that does it in ``options["step"]``."""
    commands = parser.add_subparsers(title="subcommands", metavar="COMMAND")
    for verb, does in (("pause", "lets nothing more of it start; what runs is finished"), ("resume", "lets it start")):
        command = _command(commands, verb, partial(_switch, verb), does)
        command.add_argument("scope", choices=Scope.values)
        command.add_argument("name", help="cpu, a2a.cpu.low, an agent or a client")
    for name, show, does in (
        ("queues", _queues, "shows what waits and runs in each lane, queue and agent"),
        ("workers", _workers, "shows the workers, what they have and how much they run"),
    ):
        _command(commands, name, show, does).add_argument("--json", action="store_true", help="for programs")
    priority = _command(commands, "priority", _prioritise, "changes the priority of tasks that wait")
    priority.add_argument("level", type=_level, metavar="LEVEL", help=", ".join(Priority.labels))
    cancel = _command(commands, "cancel", _cancel, "cancels tasks that have not ended")
    rerun = _command(commands, "rerun", _rerun, "makes new tasks of tasks that have ended", aliases=["retry"])
    resume = _command(commands, "push-resume", _resume_push, "lets dead webhooks go on with what they did not take")
    resume.add_argument("ids", nargs="*", type=UUID, metavar="ID", help="ids of webhooks, from --list; none: all")
    resume.add_argument("--list", action="store_true", help="only show those that are dead")
    secret = _command(commands, "webhook-secret", _issue_secret, "issues what a client's notifications are signed with")
    secret.add_argument("client", help="its name")
    _command(commands, "reseal", _reseal, "seals all secrets with the first of A2A_SECRET_KEYS")
    for command in (cancel, rerun, priority):
        command.add_argument("ids", nargs="+", type=UUID, metavar="ID", help="ids of tasks")
    archive.add_commands(commands)
    batches.add_commands(commands)
    keys.add_commands(commands)
    storage.add_commands(commands)


def _command(commands: Any, name: str, step: Step, does: str, **options: Any) -> CommandParser:
    made: CommandParser = commands.add_parser(name, help=does, description=f"{does.capitalize()}.", **options)
    made.set_defaults(step=step)
    return made


def _switch(verb: str, out: OutputWrapper, options: Options) -> int:
    scope, name = Scope(options["scope"]), options["name"]
    switch, did = (control.pause, "paused") if verb == "pause" else (control.resume, "resumed")
    try:
        changed = switch(scope, name)
    except control.NotFound as error:
        out.write(str(error))
        return NOTHING
    if not changed:
        out.write(f"nothing changed: {scope.value} {name} was {'paused' if verb == 'pause' else 'not paused'} before")
        return NOTHING
    out.write(f"{did} {scope.value} {name}")
    return DONE


def _cancel(out: OutputWrapper, options: Options) -> int:
    ids = _distinct(options["ids"])
    done = [item.task_id for item in control.cancel(ids, by=BY)]
    return _told(out, [f"cancelled {task_id}" for task_id in done], len(ids), "cancelled", "have ended or are unknown")


def _rerun(out: OutputWrapper, options: Options) -> int:
    ids = _distinct(options["ids"])
    made = [f"made {item.task_id}" for item in control.rerun(ids)]
    return _told(out, made, len(ids), "run again", "have not ended, are unknown, or have an agent that is gone")


def _prioritise(out: OutputWrapper, options: Options) -> int:
    ids, level = _distinct(options["ids"]), options["level"]
    done = [f"{task_id} is {level.label}" for task_id in control.prioritise(ids, level)]
    return _told(out, done, len(ids), "changed", "do not wait or are unknown")


def _resume_push(out: OutputWrapper, options: Options) -> int:
    dead = PushConfig.objects.filter(state=PushConfig.State.DEAD).order_by("-dead_at").defer("url")
    if options["list"]:
        table = Table("id", "task or batch", "host", "failures", "last error", box=None, pad_edge=False)
        for config in dead[:DEAD_MAX]:
            of = config.task_id or config.batch_id
            table.add_row(*map(str, (config.id, of, config.host, config.failures, config.last_error)))
        return print_table(out, table)
    ids = _distinct(options["ids"] or dead.values_list("id", flat=True))
    done = [f"resumed {config_id}" for config_id in push.resume(ids)]
    return _told(out, done, len(ids), "resumed", "are not dead or are unknown")


def _issue_secret(out: OutputWrapper, options: Options) -> int:
    try:
        out.write(push.issue_secret(options["client"]))
    except control.NotFound as error:
        out.write(str(error))
        return NOTHING
    return DONE


def _reseal(out: OutputWrapper, options: Options) -> int:
    try:
        out.write(f"sealed {push.reseal_all()} secrets anew")
    except Unopenable as error:
        out.write(f"nothing changed: {error}")
        return NOTHING
    return DONE


def _queues(out: OutputWrapper, options: Options) -> int:
    lines = overview.queues()
    if options["json"]:
        return _as_json(out, (asdict(line) for line in lines))
    table = Table("", "name", "state", box=None, pad_edge=False)
    for column in ("pending", "dispatched", "running", "oldest s", "limit", "rate/s"):
        table.add_column(column, justify="right")
    before = None
    for line in lines:
        if before not in (None, line.scope):
            table.add_section()
        before = line.scope
        table.add_row(
            line.scope.value,
            line.name,
            _state(line),
            f"{line.waiting}{'+' if line.more else ''}",
            str(line.dispatched),
            str(line.running),
            _figure(line.oldest_s, ".0f"),
            _figure(line.max_running),
            _figure(line.dispatch_rate_per_s),
        )
    return print_table(out, table)


def _workers(out: OutputWrapper, options: Options) -> int:
    lines = overview.workers()
    if options["json"]:
        return _as_json(out, (_worker(line) for line in lines))
    table = Table("worker", "lane", "state", box=None, pad_edge=False)
    for column in ("running", "slots", "memory MiB", "cores", "disk MiB"):
        table.add_column(column, justify="right")
    table.add_column("heartbeat")
    for line in lines:
        worker = line.worker
        capacity = (_figure(value or None) for value in (worker.memory_mb, worker.cores, worker.disk_mb))
        heartbeat = f"{worker.heartbeat_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(worker.name, worker.lane, line.state, str(line.running), str(worker.slots), *capacity, heartbeat)
    return print_table(out, table)


def _worker(line: overview.WorkerLine) -> dict[str, Any]:
    worker = line.worker
    names = "name lane hostname pid slots memory_mb cores disk_mb agents started_at heartbeat_at"
    return {**{name: getattr(worker, name) for name in names.split()}, "state": line.state, "running": line.running}


def _state(line: overview.Line) -> str:
    if line.paused_at:
        return "paused"
    if line.is_lane_paused:
        return "lane paused"
    if line.breaker not in ("", "closed"):
        return f"circuit {line.breaker.replace('_', ' ')}"
    return "open" if line.is_known else "not registered"


def _as_json(out: OutputWrapper, rows: Iterable[Mapping[str, Any]]) -> int:
    out.write(json.dumps(list(rows), indent=2, default=str))
    return DONE


def _told(out: OutputWrapper, lines: Sequence[str], asked: int, did: str, why: str) -> int:
    for line in lines:
        out.write(line)
    if len(lines) < asked:
        out.write(f"{did} {len(lines)} of {asked}: the others {why}")
    return DONE if lines else NOTHING


def _distinct(ids: Iterable[UUID]) -> list[UUID]:
    return list(dict.fromkeys(ids))


def _level(text: str) -> Priority:
    try:
        return Priority.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def _figure(value: float | None, form: str = "g") -> str:
    return "-" if value is None else format(value, form)
