"""The fires of schedules: each instant once, as the policies say, however many fire and whatever their clocks say."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule

from tasks_app import engine, retention, wakeups
from tasks_app.models import Client, Fire, Schedule, Task
from tasks_app.schedules import fire, times
from tasks_app.status import TERMINAL, Lane
from tests.engine.test_races import together
from tests.factory import Factory, admit, completed

pytestmark = pytest.mark.django_db(transaction=True)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
BODY = {"agent": "echo", "message": {"parts": [{"text": "again"}]}}


def hourly(owner: Client, **fields: Any) -> Schedule:
    """Every hour from noon on; the first instant is 13:00."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=3600, period="seconds")
    known: dict[str, Any] = {"name": "hourly", "task": BODY, "interval": interval}
    known |= {"created_at": NOON, "next_at": NOON + HOUR}
    return Schedule.objects.create(client=owner, **{**known, **fields})


def fires(schedule: Schedule) -> list[tuple[str, str]]:
    """The hour and the outcome of each fire, the first first."""
    return [(f"{each.at:%H:%M}", each.outcome) for each in schedule.fires.order_by("at")]


def end(factory: Factory, task_id: UUID) -> None:
    admit({Lane.IO: 10})
    factory.write(factory.claim(task_id), finish=completed())


def last_task(schedule: Schedule) -> Task:
    task = schedule.fires.filter(outcome="started").latest("at").task
    assert task is not None
    return task


def test_it_makes_its_task_at_its_instant_and_finds_the_next(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[Any] = []
    monkeypatch.setattr(wakeups.bell, "ring", rung.extend)
    schedule = hourly(owner, task={**BODY, "priority": "high", "metadata": {"for": "it"}})
    assert fire.fire_due(now=NOON + HOUR - timedelta(seconds=1)) == 0
    assert (fire.fire_due(now=NOON + HOUR), fire.fire_due(now=NOON + HOUR)) == (1, 0)
    task = last_task(schedule)
    assert (task.client_id, task.agent, task.get_priority_display(), task.metadata) == (
        owner.pk,
        "echo",
        "high",
        {"for": "it"},
    )
    assert (task.method, task.messages[0].parts[0].text) == ("schedules.fire", "again")
    schedule.refresh_from_db()
    assert schedule.next_at == NOON + 2 * HOUR
    assert [channel for channel, _ in rung] == [wakeups.DISPATCH]


@pytest.mark.parametrize("attempt", range(5))
def test_many_that_fire_together_make_one_task(attempt: int, owner: Client) -> None:
    schedules = [hourly(owner, name=str(number)) for number in range(3)]
    fired = together(*[lambda: fire.fire_due(now=NOON + HOUR)] * 4)
    assert sum(fired) == 3
    assert Task.objects.count() == Fire.objects.count() == len(schedules)


def test_the_clock_is_the_databases(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose own clock is an hour ahead fires nothing before its time, and nothing twice."""
    schedule = hourly(owner, next_at=timezone.now() + timedelta(minutes=30), created_at=timezone.now())
    ahead = timezone.now() + HOUR
    monkeypatch.setattr("django.utils.timezone.now", lambda: ahead)
    assert fire.fire_due() == 0
    Schedule.objects.update(next_at=datetime.now(UTC) - timedelta(seconds=1))
    assert fire.fire_due() == 1
    schedule.refresh_from_db()
    assert schedule.next_at is not None
    assert schedule.next_at - datetime.now(UTC) < HOUR + MINUTE


def test_an_instant_is_entered_once_and_what_was_entered_is_passed_over(owner: Client) -> None:
    schedule = hourly(owner)
    fire.fire_due(now=NOON + HOUR)
    Schedule.objects.update(next_at=NOON + HOUR)
    assert fire.fire_due(now=NOON + HOUR) == 1
    assert (fires(schedule), Task.objects.count()) == ([("13:00", "started")], 1)
    schedule.refresh_from_db()
    assert schedule.next_at == NOON + 2 * HOUR
    with pytest.raises(IntegrityError), transaction.atomic():
        Fire.objects.create(schedule=schedule, at=NOON + HOUR, created_at=NOON, outcome="missed")


def test_one_that_cannot_be_fired_holds_up_no_other(owner: Client, caplog: pytest.LogCaptureFixture) -> None:
    row = CrontabSchedule.objects.create(minute="0")
    bad = hourly(owner, name="bad", interval=None, crontab=row, next_at=NOON)
    CrontabSchedule.objects.update(minute="nonsense")
    good = [hourly(owner, name=str(number)) for number in range(2)]
    for hour in (1, 2):
        fire.fire_due(now=NOON + hour * HOUR)
    assert "a schedule could not be fired" in caplog.text
    assert not bad.fires.exists()
    assert [fires(schedule) for schedule in good] == [[("13:00", "started"), ("14:00", "skipped")]] * 2


def test_a_sweep_ends_when_it_must_leave_and_fires_nothing_of_a_client_that_is_inactive(owner: Client) -> None:
    hourly(owner)
    leaving = threading.Event()
    leaving.set()
    assert fire.fire_due(now=NOON + HOUR, leaving=leaving) == 0
    Client.objects.update(is_active=False)
    assert fire.fire_due(now=NOON + HOUR) == 0


def test_what_passed_within_the_last_minute_was_not_missed(owner: Client) -> None:
    interval = IntervalSchedule.objects.create(every=20, period="seconds")
    schedule = hourly(owner, interval=interval, overlap="queue", catch_up="none", next_at=NOON)
    fire.fire_due(now=NOON + 2 * MINUTE)
    outcomes = [fire.outcome for fire in schedule.fires.order_by("at")]
    assert outcomes == ["missed", "missed", "missed", "started", "queued", "queued", "queued"]


@pytest.mark.parametrize(
    ("catch_up", "outcomes"),
    [
        ("none", ["missed", "missed", "missed"]),
        ("last", ["missed", "missed", "started"]),
        ("all", ["started", "started", "started"]),
    ],
)
def test_what_passed_while_nothing_fired_is_made_good_as_the_policy_says(
    owner: Client, catch_up: str, outcomes: list[str]
) -> None:
    schedule = hourly(owner, catch_up=catch_up, overlap="cancel")
    fire.fire_due(now=NOON + 3 * HOUR + 5 * MINUTE)
    assert [outcome for _, outcome in fires(schedule)] == outcomes
    schedule.refresh_from_db()
    assert schedule.next_at == NOON + 4 * HOUR


def test_a_moment_late_is_not_missed(owner: Client) -> None:
    schedule = hourly(owner, catch_up="none")
    fire.fire_due(now=NOON + HOUR + timedelta(seconds=fire.LATE_S))
    assert fires(schedule) == [("13:00", "started")]


def test_of_very_many_that_were_missed_the_last_are_entered_and_all_are_made_good_in_turn(owner: Client) -> None:
    many = fire.DUE_MAX + 50
    last = hourly(owner, name="last")
    fire.fire_due(now=NOON + many * HOUR)
    assert (last.fires.filter(outcome="missed").count(), last.fires.filter(outcome="started").count()) == (99, 1)
    every = hourly(owner, name="all", catch_up="all", overlap="queue")
    for _ in range(2):
        assert fire.fire_due(now=NOON + many * HOUR) == 1, "so that the others have their turn"
    assert every.fires.count() == many


def test_while_the_task_before_runs_the_next_is_skipped(owner: Client, factory: Factory) -> None:
    schedule = hourly(owner)
    fire.fire_due(now=NOON + HOUR)
    first = last_task(schedule)
    fire.fire_due(now=NOON + 2 * HOUR)
    assert fires(schedule) == [("13:00", "started"), ("14:00", "skipped")]
    assert schedule.fires.get(outcome="skipped").reason == f"task {first.id} has not ended"
    end(factory, first.id)
    fire.fire_due(now=NOON + 3 * HOUR)
    assert fires(schedule)[-1] == ("15:00", "started")


def test_or_waits_for_its_end_in_order(owner: Client, factory: Factory) -> None:
    schedule = hourly(owner, overlap="queue")
    for number in (1, 2, 3):
        fire.fire_due(now=NOON + number * HOUR)
    assert fires(schedule) == [("13:00", "started"), ("14:00", "queued"), ("15:00", "queued")]
    for hour, outcomes in (("14:00", ["started", "started", "queued"]), ("15:00", ["started"] * 3)):
        end(factory, last_task(schedule).id)
        assert fire.fire_due(now=NOON + 3 * HOUR) == 1
        assert [outcome for _, outcome in fires(schedule)] == outcomes
        assert f"{schedule.fires.get(is_open=True).at:%H:%M}" == hour
    assert fire.fire_due(now=NOON + 3 * HOUR) == 0


def test_what_waits_goes_on_waiting_while_its_client_has_no_room_or_until_the_policy_is_another(
    owner: Client, factory: Factory
) -> None:
    schedule = hourly(owner, overlap="queue")
    for number in (1, 2):
        fire.fire_due(now=NOON + number * HOUR)
    end(factory, last_task(schedule).id)
    Client.objects.update(max_queued=0)
    fire.fire_due(now=NOON + 2 * HOUR)
    assert fires(schedule) == [("13:00", "started"), ("14:00", "queued")]
    schedule.overlap = "skip"
    fire.forget_queue(schedule)
    assert fires(schedule)[-1] == ("14:00", "skipped")


def test_or_ends_it(owner: Client) -> None:
    schedule = hourly(owner, overlap="cancel")
    fire.fire_due(now=NOON + HOUR)
    first = last_task(schedule)
    fire.fire_due(now=NOON + 2 * HOUR)
    first.refresh_from_db()
    assert (first.status, last_task(schedule).status) == ("cancelled", "pending")
    assert schedule.fires.filter(is_open=True).count() == 1


def test_jitter_delays_the_task_by_the_same_for_whoever_fires(owner: Client) -> None:
    schedule = hourly(owner, jitter_s=600.0)
    fire.fire_due(now=NOON + HOUR)
    task = last_task(schedule)
    asked = {fire._item(schedule, NOON + HOUR, _caller(owner), is_manual=False).run_after for _ in range(3)}
    assert len(asked) == 1
    (run_after,) = asked
    assert run_after is not None
    assert NOON + HOUR <= run_after <= NOON + HOUR + timedelta(seconds=600)
    assert task.run_after >= run_after


def test_one_that_is_paused_fires_nothing_and_makes_nothing_good(owner: Client) -> None:
    schedule = hourly(owner, catch_up="all", next_at=timezone.now() - HOUR)
    assert (fire.pause(schedule), fire.pause(schedule)) == (True, False)
    assert fire.fire_due() == 0
    assert (fire.resume(schedule), fire.resume(schedule)) == (True, False)
    assert fire.fire_due() == 0
    schedule.refresh_from_db()
    assert schedule.next_at is not None
    assert schedule.next_at > timezone.now()


def test_one_is_run_by_hand_whatever_runs(owner: Client) -> None:
    schedule = hourly(owner)
    fire.fire_due(now=NOON + HOUR)
    fire.pause(schedule)
    made = fire.run_now(schedule)
    assert (made.outcome, made.is_manual, Task.objects.count()) == ("started", True, 2)
    schedule.refresh_from_db()
    assert schedule.next_at == NOON + 2 * HOUR


def test_a_task_that_cannot_be_made_is_entered_with_the_reason_and_the_next_instant_comes(owner: Client) -> None:
    gone = hourly(owner, name="gone", task={**BODY, "agent": "nobody"})
    Client.objects.filter(pk=owner.pk).update(max_queued=0)
    full = hourly(owner, name="full")
    fire.fire_due(now=NOON + HOUR)
    assert "agent: " in gone.fires.get().reason
    assert full.fires.get().reason.startswith("max_queued: ")
    assert {each.outcome for each in Fire.objects.all()} == {"failed"}
    assert set(Schedule.objects.values_list("next_at", flat=True)) == {NOON + 2 * HOUR}


def test_over_a_change_of_clocks_it_fires_as_its_time_zone_says(owner: Client) -> None:
    """Two that fire, one of them behind: at 02:30 in Zürich, which on 29 March 2026 there is none of."""
    row = CrontabSchedule.objects.create(minute="30", hour="2", timezone=ZoneInfo("Europe/Zurich"))
    start = datetime(2026, 3, 27, tzinfo=UTC)
    schedule = hourly(owner, interval=None, crontab=row, overlap="cancel", catch_up="none")
    Schedule.objects.update(next_at=times.first(schedule, start))
    for minute in range(0, 5 * 24 * 60, 10):
        now = start + minute * MINUTE
        fire.fire_due(now=now)
        fire.fire_due(now=now - 7 * MINUTE)
    assert [f"{each.at:%d %H:%M}" for each in schedule.fires.filter(outcome="started").order_by("at")] == [
        "27 01:30",
        "28 01:30",
        "29 01:00",
        "30 00:30",
        "31 00:30",
    ]
    assert not schedule.fires.exclude(outcome="started").exists()


def test_a_fire_goes_with_its_task(owner: Client, factory: Factory) -> None:
    schedule = hourly(owner)
    fire.fire_due(now=NOON + HOUR)
    end(factory, last_task(schedule).id)
    engine.run(engine.prune, dict.fromkeys(TERMINAL, 0.0))
    assert (Task.objects.count(), Fire.objects.count()) == (0, 0)


def test_it_is_of_one_kind_and_a_fire_that_made_no_task_has_none(owner: Client, factory: Factory) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        hourly(owner, interval=None)
    crontab = CrontabSchedule.objects.create()
    with pytest.raises(IntegrityError), transaction.atomic():
        hourly(owner, crontab=crontab)
    schedule = hourly(owner)
    with pytest.raises(IntegrityError), transaction.atomic():
        Fire.objects.create(schedule=schedule, at=NOON, created_at=NOON, outcome="skipped", task_id=factory.pending())


def _caller(owner: Client) -> Any:
    from tasks_app.authentication import Caller

    return Caller(owner.pk, owner.name)


def test_a_row_of_beats_that_is_changed_counts_from_now(owner: Client) -> None:
    schedule = hourly(owner, created_at=timezone.now())
    row = schedule.interval
    assert row is not None
    Schedule.objects.update(next_at=NOON)
    row.save()
    schedule.refresh_from_db()
    assert schedule.next_at == NOON, "nothing was changed"
    row.every = 60
    row.save()
    schedule.refresh_from_db()
    assert schedule.next_at is not None
    assert timezone.now() < schedule.next_at <= timezone.now() + MINUTE


def test_what_made_no_task_is_forgotten_like_tasks(owner: Client, settings: Any) -> None:
    schedule = hourly(owner)
    old = timezone.now() - timedelta(days=settings.A2A_KEEP_DAYS + 1)
    for number, outcome in enumerate(("skipped", "missed", "queued")):
        Fire.objects.create(schedule=schedule, at=old + number * MINUTE, created_at=old, outcome=outcome)
    Fire.objects.create(schedule=schedule, at=timezone.now(), created_at=old, outcome="skipped")
    retention.prune()
    assert sorted(each.outcome for each in schedule.fires.all()) == ["queued", "skipped"]
