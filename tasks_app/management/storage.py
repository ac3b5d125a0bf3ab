"""``manage.py a2a storage``: whether the rows and the bytes of what stands elsewhere agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper
from django.template.defaultfilters import filesizeformat

from artifacts_app import collector
from tasks_app.management.printing import DONE, NOTHING

Options = Mapping[str, Any]


def add_commands(commands: Any) -> None:
    """Adds ``storage``; it leaves the function that does it in ``options["step"]``."""
    does = "compares the rows of stored contents with their bytes; exit code 1 if some are lost or stray"
    command: CommandParser = commands.add_parser("storage", help=does, description=f"{does.capitalize()}.")
    command.add_argument("--delete", action="store_true", help="delete bytes that no row speaks of")
    command.set_defaults(step=_verify)


def _verify(out: OutputWrapper, options: Options) -> int:
    report = collector.verify(delete=options["delete"])
    forgotten = collector.look_again()
    out.write(f"{report.blobs} contents, {filesizeformat(report.size_bytes).replace(chr(160), ' ')}")
    for blob_id in report.without_bytes:
        out.write(f"lost: {blob_id}")
    for place, count in report.out_of_reach.items():
        out.write(
            f"out of reach: {count} in {place}, which A2A_ARTIFACT_STORAGE does not name or which does not answer"
        )
    for place, name in report.without_row:
        out.write(f"{'deleted' if options['delete'] else 'stray'}: {name} in {place}")
    if forgotten:
        out.write(f"{forgotten} that nothing names will be collected")
    stray = report.without_row and not options["delete"]
    lost = report.without_bytes or report.out_of_reach or stray
    return NOTHING if lost else DONE
