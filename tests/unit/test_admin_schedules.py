"""The admin's pages of schedules: made and changed as at the REST door, paused, run now, and looked at."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule

from tasks_app.models import Client, Fire, Schedule, Task
from tests.engine.test_schedules import BODY, hourly
from tests.unit.conftest import Get

LIST = reverse("admin:tasks_app_schedule_changelist")
ADD = reverse("admin:tasks_app_schedule_add")


def page(name: str, pk: UUID) -> str:
    return reverse(f"admin:tasks_app_schedule_{name}", args=[pk])


def form(owner: Client, **fields: Any) -> dict[str, Any]:
    interval, _ = IntervalSchedule.objects.get_or_create(every=60, period="seconds")
    known = {"name": "it", "client": owner.pk, "task": json.dumps(BODY), "interval": interval.pk}
    return {**known, "overlap": "skip", "catch_up": "last", "jitter_s": "0", **fields}


def test_one_is_made_and_its_next_fires_are_shown(browser: Browser, get: Get, owner: Client) -> None:
    assert browser.post(ADD, form(owner)).status_code == 302
    schedule = Schedule.objects.get()
    assert schedule.next_at is not None
    assert 0 < (schedule.next_at - timezone.now()).total_seconds() <= 60
    html = get(page("change", schedule.pk))
    assert html.count(" UTC)") == 5
    for text in ("it", "owner", "echo", "every 60 seconds", ">on<"):
        assert text in get(LIST)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"interval": ""}, "There must be exactly one of crontab, interval, solar, clocked."),
        ({"task": "[1]"}, "task: is required and must be an object"),
        ({"task": json.dumps({**BODY, "agent": "nobody"})}, "task.agent: "),
        ({"jitter_s": "-1"}, "jitter"),
    ],
)
def test_what_is_wrong_is_said(browser: Browser, owner: Client, fields: dict[str, Any], text: str) -> None:
    reply = browser.post(ADD, form(owner, **fields))
    assert reply.status_code == 200
    assert text in reply.content.decode()
    assert not Schedule.objects.exists()


def test_a_line_that_never_comes_is_refused(browser: Browser, owner: Client) -> None:
    never = CrontabSchedule.objects.create(minute="0", hour="0", day_of_month="31", month_of_year="2")
    reply = browser.post(ADD, form(owner, interval="", crontab=never.pk))
    assert "is no cron line" in reply.content.decode()
    assert not Schedule.objects.exists()


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        ("crontab", {"day_of_month": "31", "month_of_year": "2"}, "is no cron line"),
        ("interval", {"every": "1", "period": "microseconds"}, "must be at least a second"),
        ("interval", {"every": "2000000000", "period": "days"}, "is too long"),
    ],
)
def test_a_row_of_beats_that_cannot_be_followed_is_refused(
    browser: Browser, kind: str, fields: dict[str, str], text: str
) -> None:
    line = {
        "minute": "0",
        "hour": "0",
        "day_of_month": "*",
        "month_of_year": "*",
        "day_of_week": "*",
        "timezone": "UTC",
    }
    url = reverse(f"admin:django_celery_beat_{kind}schedule_add")
    reply = browser.post(url, {**(line if kind == "crontab" else {}), **fields})
    assert (reply.status_code, text in reply.content.decode()) == (200, True)
    good = line if kind == "crontab" else {"every": "5", "period": "minutes"}
    assert browser.post(url, good).status_code == 302


def test_another_time_counts_from_now_and_another_name_changes_none(browser: Browser, owner: Client) -> None:
    schedule = hourly(owner)
    before = schedule.next_at
    same = form(owner, name="other", interval=schedule.interval_id)
    assert browser.post(page("change", schedule.pk), same).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.name, schedule.next_at) == ("other", before)
    assert browser.post(page("change", schedule.pk), form(owner)).status_code == 302
    schedule.refresh_from_db()
    assert schedule.next_at is not None
    assert schedule.next_at > timezone.now()


@pytest.mark.django_db(transaction=True)
def test_it_is_paused_resumed_and_run_after_it_was_asked_back(browser: Browser, get: Get, owner: Client) -> None:
    schedule = hourly(owner)
    assert "Pause: hourly" in get(page("pause", schedule.pk))
    for name, said in (("pause", "Paused."), ("resume", "Resumed."), ("run_now", "Run by hand.")):
        assert page(name, schedule.pk) in get(page("change", schedule.pk))
        assert browser.post(page(name, schedule.pk)).status_code == 302
        assert LogEntry.objects.latest("id").change_message == said
    assert Task.objects.count() == 1
    task_id = Fire.objects.get().task_id
    html = get(reverse("admin:tasks_app_fire_changelist"), schedule__id__exact=str(schedule.pk))
    assert str(task_id) in html
    assert "started" in html
    Schedule.objects.update(task={**BODY, "agent": "nobody"})
    assert "agent: " in browser.post(page("run_now", schedule.pk), follow=True).content.decode()


def test_who_may_not_changes_nothing(watcher: Browser, owner: Client) -> None:
    schedule = hourly(owner)
    for name in ("pause", "resume", "run_now"):
        assert watcher.post(page(name, schedule.pk)).status_code == 403
    assert watcher.get(LIST).status_code == 403
    assert not Fire.objects.exists()


@pytest.mark.parametrize("name", ["pause", "resume", "run_now"])
def test_one_that_is_gone_leads_away(browser: Browser, name: str) -> None:
    assert browser.get(page(name, uuid4())).status_code == 302
