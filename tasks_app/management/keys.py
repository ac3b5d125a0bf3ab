"""``manage.py a2a keys list|issue|rotate|revoke``: clients' API keys. A key's text is printed once, by itself."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper
from django.utils import timezone
from rich.table import Table

from tasks_app.management.printing import DONE, NOTHING, print_table
from tasks_app.models import ApiKey, Client
from tasks_app.models.api_key import GRACE
from tasks_app.scopes import is_scope

Options = Mapping[str, Any]
Step = Callable[[OutputWrapper, Options], int]


def add_commands(commands: Any) -> None:
    """Adds ``keys`` and what is below it; each leaves the function that does it in ``options["step"]``."""
    keys: CommandParser = commands.add_parser("keys", help="lists, issues, rotates and revokes clients' API keys")
    below = keys.add_subparsers(title="subcommands", metavar="COMMAND", required=True)
    listing = _command(below, "list", _list, "shows the keys, without what is secret of them")
    listing.add_argument("client", nargs="?", help="only this client's")
    issue = _command(below, "issue", _issue, "issues a key, and prints it this once")
    issue.add_argument("client")
    issue.add_argument("--name", default="", help="what it is for")
    issue.add_argument("--scope", action="append", type=_scope, default=[], help="may be repeated; none: everything")
    issue.add_argument("--days", type=_amount, help="until it expires; by default never")
    rotate = _command(below, "rotate", _rotate, "issues a successor, and prints it this once; the old key goes on")
    rotate.add_argument("--grace-hours", type=_amount, default=GRACE / timedelta(hours=1), help="for so long (24)")
    revoke = _command(below, "revoke", _revoke, "ends a key at once")
    for command in (rotate, revoke):
        command.add_argument("prefix", help="the part between the underscores: a2a_<prefix>_…")


def _command(commands: Any, name: str, step: Step, does: str) -> CommandParser:
    made: CommandParser = commands.add_parser(name, help=does, description=f"{does.capitalize()}.")
    made.set_defaults(step=step)
    return made


def _list(out: OutputWrapper, options: Options) -> int:
    rows = ApiKey.objects.select_related("client").order_by("client__name", "created_at")
    if options["client"] is not None:
        rows = rows.filter(client__name=options["client"])
    table = Table(*("prefix", "client", "name", "may", "created", "last used", "expires"), box=None, pad_edge=False)
    for key in rows:
        ends = "revoked" if key.revoked_at else _day(key.expires_at)
        may = ",".join(key.scopes) or "everything"
        table.add_row(key.prefix, key.client.name, key.name, may, _day(key.created_at), _day(key.last_used_at), ends)
    return print_table(out, table)


def _issue(out: OutputWrapper, options: Options) -> int:
    client = Client.objects.filter(name=options["client"]).first()
    if client is None:
        names = ", ".join(Client.objects.order_by("name").values_list("name", flat=True))
        out.write(f"no client '{options['client']}'; there are: {names or 'none'}")
        return NOTHING
    ends = None if options["days"] is None else timezone.now() + timedelta(days=options["days"])
    _, text = ApiKey.issue(client, name=options["name"], scopes=options["scope"], expires_at=ends)
    out.write(text)
    return DONE


def _rotate(out: OutputWrapper, options: Options) -> int:
    key = ApiKey.objects.filter(prefix=options["prefix"]).first()
    issued = None if key is None else key.rotate(grace=timedelta(hours=options["grace_hours"]))
    if issued is None:
        out.write(f"nothing changed: no key in use that has no successor begins with a2a_{options['prefix']}_")
        return NOTHING
    out.write(issued[1])
    return DONE


def _revoke(out: OutputWrapper, options: Options) -> int:
    key = ApiKey.objects.filter(prefix=options["prefix"]).first()
    if key is None or not key.revoke():
        out.write(f"nothing changed: no key that is not revoked begins with a2a_{options['prefix']}_")
        return NOTHING
    out.write(f"revoked {key}")
    return DONE


def _day(instant: Any) -> str:
    return "-" if instant is None else f"{instant:%Y-%m-%d %H:%M}"


def _scope(text: str) -> str:
    if not is_scope(text):
        raise ArgumentTypeError(f"'{text}' is no scope: no spaces, quotes or backslashes")
    return text


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100_000:
        raise ArgumentTypeError("must be a number from 0")
    return value
