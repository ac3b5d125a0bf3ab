"""The instants of schedules: cron lines in their time zones and over changes of clocks, intervals, the sun, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from django_celery_beat.models import IntervalSchedule

from tasks_app.schedules import times

ZURICH = "Europe/Zurich"


def cron(line: str, after: str, count: int, zone: str = "UTC") -> list[str]:
    """The next instants as local time with its offset."""
    minute, hour, day_of_month, month, day_of_week = line.split()
    where = ZoneInfo(zone)
    start = datetime.fromisoformat(after).replace(tzinfo=where) if "+" not in after else datetime.fromisoformat(after)
    found = islice(times.cron((minute, hour, day_of_month, month, day_of_week), where, start), count)
    return [f"{at.astimezone(where):%a %Y-%m-%d %H:%M%z}" for at in found]


@pytest.mark.parametrize(
    ("line", "after", "found"),
    [
        ("30 2 * * *", "2026-01-31T02:30", ["Sun 2026-02-01 02:30+0000", "Mon 2026-02-02 02:30+0000"]),
        ("*/20 * * * *", "2026-01-31T02:30", ["Sat 2026-01-31 02:40+0000", "Sat 2026-01-31 03:00+0000"]),
        ("0 9 * * mon-fri", "2026-01-30T09:00", ["Mon 2026-02-02 09:00+0000", "Tue 2026-02-03 09:00+0000"]),
        ("0 0 29 2 *", "2026-01-01T00:00", ["Tue 2028-02-29 00:00+0000", "Sun 2032-02-29 00:00+0000"]),
        ("0 0 13 * 5", "2026-01-01T00:00", ["Fri 2026-02-13 00:00+0000", "Fri 2026-03-13 00:00+0000"]),
        ("* * 13 * fri", "2026-02-13T23:59", ["Fri 2026-03-13 00:00+0000", "Fri 2026-03-13 00:01+0000"]),
        ("0 12 1-7 * 0", "2026-01-01T00:00", ["Sun 2026-01-04 12:00+0000", "Sun 2026-02-01 12:00+0000"]),
    ],
)
def test_a_cron_line_is_read_as_celery_reads_it(line: str, after: str, found: list[str]) -> None:
    assert cron(line, after, len(found)) == found


@pytest.mark.parametrize(
    ("line", "after", "found"),
    [
        # 2026-03-29: 02:00 becomes 03:00.
        ("30 2 * * *", "2026-03-28T12:00", ["Sun 2026-03-29 03:00+0200", "Mon 2026-03-30 02:30+0200"]),
        ("0 * * * *", "2026-03-29T00:30", ["Sun 2026-03-29 01:00+0100", "Sun 2026-03-29 03:00+0200"]),
        # 2026-10-25: 03:00 becomes 02:00.
        ("30 2 * * *", "2026-10-24T12:00", ["Sun 2026-10-25 02:30+0200", "Mon 2026-10-26 02:30+0100"]),
        (
            "30 * * * *",
            "2026-10-25T01:00",
            ["Sun 2026-10-25 01:30+0200", "Sun 2026-10-25 02:30+0200", "Sun 2026-10-25 02:30+0100"],
        ),
        ("0 9 * * *", "2026-10-24T12:00", ["Sun 2026-10-25 09:00+0100", "Mon 2026-10-26 09:00+0100"]),
    ],
)
def test_a_change_of_clocks_neither_leaves_out_nor_repeats_what_is_for_one_time(
    line: str, after: str, found: list[str]
) -> None:
    assert cron(line, after, len(found), ZURICH) == found


@pytest.mark.parametrize("line", ["61 * * * *", "x * * * *", "* * 0 * *", "* * * 13 *", "* * * * 9", "0 0 31 2 *"])
def test_a_line_that_cannot_be_read_or_never_comes_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is no cron line"):
        cron(line, "2026-01-01T00:00", 1)


def test_in_an_hour_that_comes_twice_nothing_comes_that_was_before() -> None:
    after = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # the second 02:10
    (found,) = islice(times.cron(("30", "2", "*", "*", "*"), ZoneInfo(ZURICH), after), 1)
    assert f"{found:%d %H:%M}" == "26 01:30"


def test_a_day_that_a_change_of_clocks_cuts_off_is_of_its_own_weekday() -> None:
    """America/Nuuk, 28 March 2026, a Saturday: 23:00 is the next midnight."""
    after = datetime(2026, 3, 28, 12, tzinfo=UTC)
    zone = ZoneInfo("America/Nuuk")
    for day, found in (("sat", "2026-03-29 01:00"), ("sun", "2026-03-30 00:45")):
        (at,) = islice(times.cron(("45", "23", "*", "*", day), zone, after), 1)
        assert f"{at:%Y-%m-%d %H:%M}" == found


def test_at_the_pole_the_sun_does_not_rise_and_what_is_no_step_is_refused() -> None:
    assert list(islice(times.sun("dusk_astronomical", 90, 0, datetime(2026, 1, 1, tzinfo=UTC)), 1)) == []
    for row in ({"every": 1, "period": "microseconds"}, {"every": 2_000_000_000, "period": "days"}):
        with pytest.raises(ValueError, match=r"must be at least a second|is too long"):
            times.step(IntervalSchedule(**row))


def test_an_interval_counts_from_its_anchor() -> None:
    anchor = datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC)
    hour = timedelta(hours=1)
    for after, number in ((anchor - hour, 1), (anchor, 1), (anchor + hour, 2), (anchor + 1.5 * hour, 2)):
        assert next(times.every(hour, anchor, after)) == anchor + number * hour
    far = anchor + 100_000 * hour
    assert list(islice(times.every(hour, anchor, far), 2)) == [far + hour, far + 2 * hour]


def test_the_sun_rises_once_a_day() -> None:
    after = datetime(2026, 6, 1, tzinfo=UTC)
    found = list(islice(times.sun("sunrise", 47.37, 8.54, after), 3))
    assert [f"{at:%d %H}" for at in found] == ["01 03", "02 03", "03 03"]
    assert all(abs((later - at).total_seconds() - 86_400) < 120 for at, later in pairwise(found))


def test_where_the_sun_does_not_rise_the_next_day_with_it_is_found() -> None:
    (found,) = islice(times.sun("sunrise", 69.65, 18.96, datetime(2026, 12, 1, tzinfo=UTC)), 1)
    assert found.date() > datetime(2027, 1, 10, tzinfo=UTC).date()


def test_once_is_once() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert list(times.once(at, at - timedelta(seconds=1))) == [at]
    assert list(times.once(at, at)) == []
