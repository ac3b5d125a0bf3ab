"""``manage.py a2a batch FILE``: submits a file of tasks as one batch, and shows how far it is until all have ended."""

from __future__ import annotations

import hashlib
import time
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tasks_app import batches
from tasks_app.a2a.errors import A2AError, violations
from tasks_app.authentication import Caller
from tasks_app.engine import Tally
from tasks_app.management.printing import DONE, NOTHING, USAGE
from tasks_app.models import Batch, Client
from tasks_app.models.client import LOCAL_CLIENT
from tasks_app.status import TERMINAL, TaskStatus

Options = Mapping[str, Any]
LOOK_S = 0.5
#: As many complaints are printed.
WRONG_MAX = 20


class Items:
    """The tasks of a file, read line by line each time: a batch of large messages is never whole in memory."""

    def __init__(self, path: Path) -> None:
        """Reads the file once. Raises OSError, or InvalidParamsError for a first line that is wrong."""
        self._path = path
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            self.head, rest = batches.lines(stream)
            self._count = sum(1 for _ in rest)
        with path.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
        self.digest = digest.digest()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, item: object) -> bool:
        return any(item == other for other in self)

    def __iter__(self) -> Iterator[Any]:
        with closing(self._path.open("rb")) as stream:
            _, rest = batches.lines(stream)
            for line in rest:
                yield batches.item(line)


def add_commands(commands: Any) -> None:
    """Adds ``batch``; it leaves the function that does it in ``options["step"]``."""
    does = "submits a file of tasks as one batch, and shows how far it is"
    text = (
        f"{does.capitalize()}. Each line is a task, as POST /api/v1/tasks/ takes it; the first may be"
        ' {"batch": {…}} with name, metadata, defaults, atomic and callback. Ends with 0 if all tasks completed.'
    )
    batch: CommandParser = commands.add_parser("batch", help=does, description=text)
    batch.add_argument("file", type=_file, metavar="FILE", help="lines of JSON")
    batch.add_argument("--client", default=LOCAL_CLIENT, help=f"whose tasks they are ({LOCAL_CLIENT})")
    batch.add_argument("--key", default="", help="the same file again under the same key is the same batch")
    batch.add_argument("--no-wait", action="store_true", help="end when the batch is accepted")
    batch.set_defaults(step=_submit)


def _submit(out: OutputWrapper, options: Options) -> int:
    client = Client.objects.filter(name=options["client"]).first()
    if client is None:
        known = ", ".join(Client.objects.order_by("name").values_list("name", flat=True))
        out.write(f"no client '{options['client']}'; there are: {known or 'none'}")
        return NOTHING
    caller = Caller.of(client)
    try:
        items = Items(options["file"])
        request = batches.asked({**items.head, "tasks": items}, key=options["key"], digest=items.digest)
        made = batches.make(request, caller)
    except A2AError as error:
        out.write(error.message)
        for wrong in violations(error)[:WRONG_MAX]:
            out.write(f"  {wrong['field']}: {wrong['message']}")
        return USAGE
    batch = Batch.objects.get(id=made.batch_id)
    out.write(f"batch {batch.id}: {batch.size - len(batch.refused)} of {batch.size} tasks accepted")
    for wrong in batch.refused[:WRONG_MAX]:
        out.write(f"  tasks[{wrong['index']}]: {wrong['field']}: {wrong['message']}")
    code = DONE if options["no_wait"] else _watch(out, batch)
    return code if not batch.refused else NOTHING


def _watch(out: OutputWrapper, batch: Batch) -> int:
    """A live bar until every task has ended."""
    console = Console(file=out)  # type: ignore[arg-type]  # it writes
    columns = (BarColumn(40), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=batch.size - len(batch.refused))
        while True:
            batch.refresh_from_db()
            tally = batches.tallies([batch])[batch.id]
            ended = sum(tally.counts.get(status, 0) for status in TERMINAL)
            progress.update(bar, completed=ended, description=_said(tally))
            if ended == sum(tally.counts.values()):
                break
            time.sleep(LOOK_S)
    out.write(_said(tally))
    return DONE if set(tally.counts) == {TaskStatus.COMPLETED} else NOTHING


def _said(tally: Tally) -> str:
    known = [status for status in TaskStatus if status in tally.counts]
    return ", ".join(f"{tally.counts[status]} {status.replace('_', ' ')}" for status in known)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ArgumentTypeError(f"{text} is no file")
    return path
