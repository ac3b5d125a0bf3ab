"""Schedules that the settings declare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks_app import checks
from tasks_app.models import Client, Schedule
from tasks_app.models.client import LOCAL_CLIENT
from tasks_app.schedules import declared
from tests.engine.test_races import together
from tests.engine.test_schedules import BODY, hourly

pytestmark = pytest.mark.django_db(transaction=True)


def one(**fields: Any) -> dict[str, Any]:
    return {"client": "owner", "name": "nightly", "task": BODY, "cron": "0 3 * * *", **fields}


def test_they_are_made_once_by_many_and_changed_as_declared(owner: Client) -> None:
    together(*[lambda: declared.put([one(overlap="queue"), one(client=LOCAL_CLIENT)])] * 3)
    assert Schedule.objects.count() == 2
    first = Schedule.objects.get(client=owner)
    assert (first.overlap, first.is_declared) == ("queue", True)
    Schedule.objects.update(next_at=first.created_at)
    declared.put([one(jitter_s=5), one(client=LOCAL_CLIENT, cron="0 4 * * *")])
    same, moved = Schedule.objects.get(client=owner), Schedule.objects.get(client__name=LOCAL_CLIENT)
    assert (same.pk, same.overlap, same.jitter_s, same.next_at) == (first.pk, "skip", 5.0, first.created_at)
    assert moved.next_at is not None
    assert (moved.next_at.hour, moved.next_at > first.created_at) == (4, True)


def test_what_is_declared_no_longer_goes_and_what_others_made_stays(owner: Client) -> None:
    hourly(owner)
    declared.put([one(), one(name="other")])
    declared.put([one()])
    assert sorted(Schedule.objects.values_list("name", flat=True)) == ["hourly", "nightly"]
    declared.put([])
    assert Schedule.objects.get().name == "hourly"


def test_one_that_is_wrong_is_logged_and_the_others_are_made(owner: Client, caplog: pytest.LogCaptureFixture) -> None:
    declared.put([one(name="bad", cron="x"), one(name="lost", client="nobody"), one()])
    assert Schedule.objects.get().name == "nightly"
    assert "'bad' of 'owner': cron: " in caplog.text
    assert "'lost' of 'nobody': " in caplog.text


def test_one_that_has_become_wrong_stays_as_it_was(owner: Client) -> None:
    declared.put([one()])
    declared.put([one(cron="x")])
    crontab = Schedule.objects.get().crontab
    assert crontab is not None
    assert crontab.hour == "3"


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '[{"name": "x"}]', "[", json.dumps([one(), one()]), "/no/such/file.json"]
)
def test_what_cannot_be_read_is_an_error_of_the_checks(settings: Any, text: str) -> None:
    settings.A2A_SCHEDULES = text
    (error,) = checks.declared_schedules()
    assert (error.id, error.msg.startswith("A2A_SCHEDULES cannot be read: ")) == ("a2a.E024", True)


def test_a_file_is_read(settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "schedules.json"
    path.write_text(json.dumps([one()]))
    settings.A2A_SCHEDULES = str(path)
    assert checks.declared_schedules() == []
    assert declared.read(str(path)) == [one()]
    assert declared.read("") == []
