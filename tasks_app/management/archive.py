"""``manage.py a2a archive --to …``: writes ended tasks to an archive, and deletes none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper
from django.db.models import Q
from django.utils import timezone

from tasks_app import archive
from tasks_app.management.printing import DONE, USAGE
from tasks_app.models import Task
from tasks_app.retention import BATCH
from tasks_app.status import TERMINAL

Options = Mapping[str, Any]


def add_commands(commands: Any) -> None:
    """Adds ``archive``; it leaves the function that does it in ``options["step"]``."""
    does = "writes ended tasks, with their events and what is known of their artifacts, to an archive; deletes none"
    command: CommandParser = commands.add_parser("archive", help=does, description=f"{does.capitalize()}.")
    command.add_argument(
        "--to", required=True, help="a folder, storage:<alias of STORAGES>, or mongodb://host/database"
    )
    command.add_argument("--days", type=float, default=0.0, help="only those that ended so many days ago (0: all)")
    command.set_defaults(step=_write)


def _write(out: OutputWrapper, options: Options) -> int:
    try:
        sink = archive.sink(options["to"])
    except ValueError as error:
        out.write(f"--to: {error}")
        return USAGE
    until = timezone.now() - timedelta(days=options["days"])
    ended = Task.objects.filter(status__in=TERMINAL, completed_at__lt=until).order_by("completed_at", "id")
    written, past = 0, Q()
    while page := list(ended.filter(past).values_list("completed_at", "id")[:BATCH]):
        sink.write(archive.records([task_id for _, task_id in page]))
        written += len(page)
        at, task_id = page[-1]
        past = Q(completed_at__gt=at) | Q(completed_at=at, id__gt=task_id)
    out.write(f"wrote {written} tasks")
    return DONE
