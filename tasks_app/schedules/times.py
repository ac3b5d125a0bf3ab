"""The instants of a schedule after a given one, in order; all of them in UTC. Pure.

Cron lines are read as Celery reads them (a day must fit ``day_of_month`` and ``day_of_week``), and follow their time
zone as Debian's cron does: what falls into the hour that a change of clocks leaves out comes right after it, what falls
into the hour that comes twice comes once, but for lines that are for every hour or minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab, solar
from cronsim import CronSim, CronSimError
from django_celery_beat.models import CrontabSchedule, IntervalSchedule

from tasks_app.models import Schedule

#: Minute, hour, day of month, month, day of week.
Line = tuple[str, str, str, str, str]
#: Where Celery finds no event of the sun within a year, it says when to look again.
SUN_MAX = timedelta(days=365)
STEP_MIN = timedelta(seconds=1)
SHOWN = 5


def following(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The schedule's instants after this one. Raises ValueError for a row of beat's that cannot be followed."""
    if schedule.crontab is not None:
        return cron(line(schedule.crontab), ZoneInfo(str(schedule.crontab.timezone)), after)
    if schedule.interval is not None:
        return every(step(schedule.interval), schedule.created_at, after)
    if schedule.solar is not None:
        return sun(schedule.solar.event, float(schedule.solar.latitude), float(schedule.solar.longitude), after)
    if schedule.clocked is not None:
        return once(schedule.clocked.clocked_time, after)
    return iter(())


def first(schedule: Schedule, after: datetime) -> datetime | None:
    """The schedule's next instant after this one; None if there is none."""
    return next(following(schedule, after), None)


def upcoming(schedule: Schedule) -> list[datetime]:
    """Its next fires; none while it is paused."""
    if schedule.next_at is None or schedule.paused_at is not None:
        return []
    return [schedule.next_at, *islice(following(schedule, schedule.next_at), SHOWN - 1)]


def line(row: CrontabSchedule) -> Line:
    return (row.minute, row.hour, row.day_of_month, row.month_of_year, row.day_of_week)


def step(interval: IntervalSchedule) -> timedelta:
    """Raises ValueError for one that is too short, or too long to be counted."""
    try:
        found = timedelta(**{interval.period: interval.every})
    except OverflowError:
        raise ValueError(f"{interval}: is too long") from None
    if found < STEP_MIN:
        raise ValueError(f"{interval}: must be at least a second")
    return found


def cron(line: Line, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Those of a cron line. Raises ValueError if it cannot be read, or never comes."""
    minute, hour, day_of_month, month, day_of_week = line
    try:
        parsed: Any = crontab(*line[:2], day_of_week=day_of_week, day_of_month=day_of_month, month_of_year=month)
        days, months = _listed(parsed.day_of_month, 31), _listed(parsed.month_of_year, 12)
        # Of a line that names days both ways cron takes either, and Celery both: those are looked at one by one.
        weekdays = _listed(parsed.day_of_week, 7) if days == "*" else "*"
        text = f"{minute} {hour} {days} {months} {weekdays}"
        sim = CronSim(text, after.astimezone(zone))
    except (ParseException, CronSimError, ValueError) as error:
        raise ValueError(f"{' '.join(line)} is no cron line: {error}") from None
    # In an hour that comes twice the library does not know which of them it is.
    return (at for at in _on_weekdays(sim, text, set(parsed.day_of_week), zone) if at > after)


def _on_weekdays(sim: CronSim, text: str, weekdays: set[int], zone: ZoneInfo) -> Iterator[datetime]:
    """Those that fall on these days of the week, of which 0 is Sunday. A day that is none is passed over whole."""
    filters = text.endswith("*")
    while True:
        try:
            instant = next(sim)
        except StopIteration:
            return
        if not filters or instant.isoweekday() % 7 in weekdays:
            yield instant.astimezone(UTC)
        else:
            day_end = datetime.combine(instant.date(), time.max, tzinfo=zone).replace(fold=1)
            sim = CronSim(text, max(instant, day_end))


def every(step: timedelta, anchor: datetime, after: datetime) -> Iterator[datetime]:
    """Those that come after the anchor in steps."""
    number = max(1, math.floor((after - anchor) / step) + 1)
    while True:
        try:
            instant = anchor + number * step
        except OverflowError:
            return
        yield instant.astimezone(UTC)
        number += 1


def sun(event: Any, latitude: float, longitude: float, after: datetime) -> Iterator[datetime]:
    """Those of an event of the sun, as Celery knows them, at a place. Days without it are passed over."""
    while True:
        known = after
        wait = solar(event, latitude, longitude, nowfun=lambda known=known: known).remaining_estimate(known)
        if wait > SUN_MAX:
            return
        yield (known + wait).astimezone(UTC)
        # From the very instant on it would be found once more.
        after = known + wait + timedelta(minutes=1)


def once(at: datetime, after: datetime) -> Iterator[datetime]:
    if at > after:
        yield at.astimezone(UTC)


def _listed(numbers: set[int], most: int) -> str:
    return "*" if len(numbers) == most else ",".join(map(str, sorted(numbers)))
