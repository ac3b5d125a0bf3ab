"""How the subcommands of ``manage.py a2a`` end, and how they print."""

from __future__ import annotations

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.table import Table

DONE, NOTHING, USAGE = 0, 1, 2
#: As wide as a table is made where nobody looks at it on a terminal, so that no name is cut.
WIDTH = 200


def print_table(out: OutputWrapper, table: Table) -> int:
    console = Console(file=out, width=None if out.isatty() else WIDTH)  # type: ignore[arg-type]  # it writes
    console.print(table)
    return DONE
