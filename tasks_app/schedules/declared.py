"""Schedules that the settings declare: ``A2A_SCHEDULES`` is their word, and what it no longer names is deleted.

A JSON list, or the path of a file with one: of objects as ``POST /api/v1/schedules/`` takes them, each with the name of
its ``client`` besides.
"""

from __future__ import annotations

import logging
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.db import connection, transaction

from tasks_app.a2a import extension
from tasks_app.a2a.errors import A2AError
from tasks_app.authentication import Caller
from tasks_app.database import OUTAGES
from tasks_app.models import Client, Schedule
from tasks_app.models.client import LOCAL_CLIENT
from tasks_app.schedules import asked, fire

log = logging.getLogger(__name__)

#: Of the advisory lock under which one process at a time puts them.
LOCK = 0x5C4ED


def read(setting: str) -> list[dict[str, Any]]:
    """What the setting declares. Raises ValueError, or OSError for a file that cannot be read."""
    if not setting:
        return []
    text = setting if setting.lstrip().startswith("[") else Path(setting).read_text()
    found = orjson.loads(text)
    if not isinstance(found, list):
        raise ValueError("it is no list")
    names: set[tuple[str | None, str | None]] = set()
    for number, each in enumerate(found):
        name = (each.get("client"), each.get("name")) if isinstance(each, dict) else (None, None)
        if not all(isinstance(text, str) for text in name):
            raise ValueError(f"[{number}] is no object with a client and a name")
        if name in names:
            raise ValueError(f"[{number}] has the name of another one of its client")
        names.add(name)
    return found


@cache
def put_once() -> None:
    """Puts those of the settings in place, when a process first fires schedules. What cannot be read is logged."""
    try:
        declared = read(settings.A2A_SCHEDULES)
    except (ValueError, OSError) as error:
        log.error("A2A_SCHEDULES cannot be read: %s", error)
        return
    put(declared)


def put(declared: list[dict[str, Any]]) -> None:
    """Makes and changes these, and deletes those that were declared before. One that is wrong is logged, and stays."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        named = {(each["client"], each["name"]) for each in declared}
        before = Schedule.objects.select_for_update(of=("self",)).filter(is_declared=True).select_related("client")
        for schedule in before.order_by("pk"):
            if (schedule.client.name, schedule.name) not in named:
                schedule.delete()
        for each in declared:
            try:
                with transaction.atomic():
                    _put(dict(each))
            except OUTAGES:
                raise
            except Exception as error:
                log.error("A2A_SCHEDULES: '%s' of '%s': %s", each["name"], each["client"], error)


def _put(body: dict[str, Any]) -> None:
    name = body.pop("client")
    owner = Client.objects.get_or_create(name=name)[0] if name == LOCAL_CLIENT else Client.objects.get(name=name)
    now = fire.clock()
    known = Schedule.objects.select_for_update(of=("self",)).filter(client=owner, name=body["name"]).first()
    if known is not None and not known.is_declared:
        raise ValueError("there is one of this name that was made elsewhere")
    schedule = known or Schedule(client=owner, created_at=now, is_declared=True)
    for field in ("overlap", "catch_up", "jitter_s"):
        setattr(schedule, field, getattr(Schedule(), field))
    before, next_at = _said(schedule), schedule.next_at
    if known is not None and schedule.clocked is not None and _instant(body.get("at")) == schedule.clocked.clocked_time:
        del body["at"]  # it may have fired
    asked.put(schedule, body, Caller(owner.pk, owner.name), now=now)
    if known is not None and before == _said(schedule):
        schedule.next_at = next_at
    schedule.save()
    fire.forget_queue(schedule)


def _said(schedule: Schedule) -> list[Any]:
    return [getattr(schedule, f"{kind}_id") for kind in asked.KINDS]


def _instant(value: Any) -> datetime | None:
    try:
        return extension.instant(value, "at")
    except A2AError:
        return None
