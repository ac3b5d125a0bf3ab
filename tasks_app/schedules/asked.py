"""What a body asks of a schedule: checked, and put into its row and django-celery-beat's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from django.db.models import Model
from django_celery_beat.models import (
    SOLAR_SCHEDULES,
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    SolarSchedule,
)

from tasks_app import addresses
from tasks_app.a2a import extension, parse
from tasks_app.a2a.errors import A2AError, invalid, violations
from tasks_app.authentication import Caller
from tasks_app.models import Schedule
from tasks_app.schedules import times
from tasks_app.schedules.fire import METHOD
from tasks_app.submissions import check_names, submission

R = TypeVar("R", bound=Model)

WHEN = ("cron", "timezone", "every_s", "at", "solar")
FIELDS = ("name", "task", *WHEN, "overlap", "catch_up", "jitter_s")
NAME_MAX_CHARS = 128
EVERY_MAX_S = 366 * 86_400
JITTER_MAX_S = 86_400.0
#: The columns that say when: one of them is set.
KINDS = ("crontab", "interval", "solar", "clocked")
SOLAR_FIELDS = ("event", "latitude", "longitude")


def put(schedule: Schedule, data: Any, caller: Caller, *, now: datetime) -> list[str]:
    """Puts what a body says into the schedule, which is not saved; what it does not say stays. The fields that it set.

    To be called within a transaction: it may make rows of beat's. Raises InvalidParamsError, or Forbidden, naming the
    field that is unknown, missing or wrong.
    """
    if not isinstance(data, Mapping):
        raise invalid("body", "must be a JSON object")
    check_names(data, FIELDS)
    is_new = schedule._state.adding
    fields: dict[str, Any] = {}
    if is_new or "name" in data:
        fields["name"] = name(data.get("name"))
    if is_new or "task" in data:
        fields["task"] = task(data.get("task"), caller)
    for field, choices in (("overlap", Schedule.Overlap), ("catch_up", Schedule.CatchUp)):
        if field in data:
            fields[field] = _choice(data[field], field, choices.values)
    if "jitter_s" in data:
        fields["jitter_s"] = _number(data["jitter_s"], "jitter_s", 0.0, JITTER_MAX_S)
    for field, value in fields.items():
        setattr(schedule, field, value)
    if not is_new and not set(WHEN) & set(data):
        return list(fields)
    _put_when(schedule, data)
    schedule.next_at = first(schedule, now)
    return [*fields, *KINDS, "next_at"]


def said(schedule: Schedule) -> dict[str, Any]:
    """When the schedule fires, in the fields in which it is asked for."""
    if schedule.crontab is not None:
        return {"cron": " ".join(times.line(schedule.crontab)), "timezone": str(schedule.crontab.timezone)}
    if schedule.interval is not None:
        return {"every_s": times.step(schedule.interval).total_seconds()}
    if schedule.solar is not None:
        row = schedule.solar
        place = {"latitude": float(row.latitude), "longitude": float(row.longitude)}
        return {"solar": {"event": row.event, **place}}
    return {"at": schedule.clocked.clocked_time if schedule.clocked else None}


def _put_when(schedule: Schedule, data: Mapping[str, Any]) -> None:
    kinds = [name for name in WHEN if name != "timezone" and name in data]
    if len(kinds) != 1:
        raise invalid("cron", "there must be exactly one of cron, every_s, at and solar")
    if "timezone" in data and kinds != ["cron"]:
        raise invalid("timezone", "goes with cron only")
    schedule.crontab = schedule.interval = schedule.solar = schedule.clocked = None
    value = data[kinds[0]]
    if kinds == ["cron"]:
        schedule.crontab = _crontab(value, data.get("timezone", "UTC"))
    elif kinds == ["every_s"]:
        seconds = _number(value, "every_s", 1, EVERY_MAX_S)
        if seconds != int(seconds):
            raise invalid("every_s", "must be whole seconds")
        schedule.interval = _row(IntervalSchedule, every=int(seconds), period="seconds")
    elif kinds == ["at"]:
        schedule.clocked = _row(ClockedSchedule, clocked_time=_instant(value))
    else:
        schedule.solar = _solar(value)


def _crontab(text: Any, zone: Any) -> CrontabSchedule:
    if not isinstance(zone, str) or zone not in available_timezones():
        raise invalid("timezone", "must be the name of a time zone, such as Europe/Zurich")
    fields = text.split() if isinstance(text, str) else []
    if len(fields) != 5:
        raise invalid("cron", "must have five fields: minute, hour, day of month, month, day of week")
    line = dict(zip(("minute", "hour", "day_of_month", "month_of_year", "day_of_week"), fields, strict=True))
    for field, said in line.items():
        most = CrontabSchedule._meta.get_field(field).max_length or 0
        if len(said) > most:
            raise invalid("cron", f"{field} must have at most {most} characters")
    row = _row(CrontabSchedule, **line, timezone=ZoneInfo(zone))
    try:
        times.cron(times.line(row), ZoneInfo(zone), datetime.now(ZoneInfo(zone)))
    except ValueError as error:
        raise invalid("cron", str(error)[:300]) from None
    return row


def _solar(data: Any) -> SolarSchedule:
    if not isinstance(data, Mapping):
        raise invalid("solar", f"must be an object of {', '.join(SOLAR_FIELDS)}")
    check_names(data, SOLAR_FIELDS, path="solar.")
    event = _choice(data.get("event"), "solar.event", [name for name, _ in SOLAR_SCHEDULES])
    place = {
        name: Decimal(str(_number(data.get(name), f"solar.{name}", -most, most))).quantize(Decimal("0.000001"))
        for name, most in (("latitude", 90.0), ("longitude", 180.0))
    }
    return _row(SolarSchedule, event=event, **place)


def _row(model: type[R], **fields: Any) -> R:
    """The row of beat's that says this, of which there may be several."""
    found: R | None = model._default_manager.filter(**fields).order_by("pk").first()
    return found or model._default_manager.create(**fields)


def first(schedule: Schedule, now: datetime) -> datetime:
    """The schedule's next instant. Raises InvalidParamsError if there is none."""
    try:
        instant = times.first(schedule, now)
    except ValueError as error:
        raise invalid(_field(schedule), str(error)) from None
    if instant is None:
        raise invalid(_field(schedule), "is past" if schedule.clocked else "never comes")
    return instant


def _field(schedule: Schedule) -> str:
    """In which field it is said when the schedule fires."""
    kinds = {"crontab": "cron", "interval": "every_s", "solar": "solar", "clocked": "at"}
    return next(field for kind, field in kinds.items() if getattr(schedule, kind) is not None)


def task(data: Any, caller: Caller) -> dict[str, Any]:
    """The task of each fire, as it would be submitted now. Raises what that raises, with the path below ``task``."""
    if not isinstance(data, Mapping):
        raise invalid("task", "is required and must be an object, as POST /api/v1/tasks/ takes it")
    if parse.has_nul(data):
        raise invalid("task", "may not hold NUL characters")
    message = data.get("message")
    for field in ("messageId", "message_id"):
        if isinstance(message, Mapping) and field in message:
            raise invalid(f"task.message.{field}", "must be left out: each fire's task has its own")
    if data.get("depends_on"):
        raise invalid("task.depends_on", "must be left out: the fires of a schedule need no other task")
    if data.get("run_after") is not None:
        raise invalid("task.run_after", "must be left out: the schedule says when; jitter_s may delay it")
    try:
        asked = submission(data, caller, method=METHOD)
    except A2AError as error:
        (wrong,) = violations(error)
        raise invalid(f"task.{wrong['field']}", wrong["message"]) from error
    if addresses.may_name_upload(asked.message):
        raise invalid(
            "task.message.parts", "may name no file that was sent by itself: it would be gone by the next fire"
        )
    return dict(data)


def name(value: Any) -> str:
    """The name of a schedule. Raises InvalidParamsError."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_MAX_CHARS or not value.isprintable():
        raise invalid("name", f"is required and must have 1 to {NAME_MAX_CHARS} printable characters")
    return value


def _choice(value: Any, path: str, choices: list[str]) -> str:
    if value not in choices:
        raise invalid(path, f"must be one of {', '.join(choices)}")
    return str(value)


def _number(value: Any, path: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid(path, "must be a number")
    if not least <= value <= most:
        raise invalid(path, f"must be from {least:g} to {most:g}")
    return float(value)


def _instant(value: Any) -> datetime:
    found = extension.instant(value, "at")
    if found is None:
        raise invalid("at", "may not be null")
    return found
