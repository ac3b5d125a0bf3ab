"""``/api/v1/schedules/``: recurring tasks of a client, made, changed, paused, run and looked at."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule

from tasks_app.database import conninfo
from tasks_app.models import ApiKey, Client, Fire, Schedule, Task
from tasks_app.schedules import asked, fire
from tests.protocol.doors import Doors, content
from tests.protocol.test_batches import wrong

SCHEDULES = "/api/v1/schedules/"
TASK = {"agent": "echo", "message": {"parts": [{"text": "again"}]}}


def body(**fields: Any) -> dict[str, Any]:
    when = {} if {"cron", "every_s", "at", "solar"} & set(fields) else {"every_s": 3600}
    return {"name": "it", "task": TASK, **when, **fields}


def make(doors: Doors, **fields: Any) -> httpx.Response:
    return doors.send("POST", SCHEDULES, **content(body(**fields)))


def made(doors: Doors, **fields: Any) -> dict[str, Any]:
    reply = make(doors, **fields)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def act(doors: Doors, schedule: dict[str, Any], verb: str) -> httpx.Response:
    return doors.send("POST", f"{SCHEDULES}{schedule['id']}/{verb}/")


def test_one_is_made_with_the_defaults_and_shows_its_next_five(doors: Doors) -> None:
    reply = make(doors)
    shown = reply.json()
    assert reply.headers["location"] == f"{SCHEDULES}{shown['id']}/"
    assert {name: shown[name] for name in ("name", "task", "when", "overlap", "catch_up", "jitter_s", "last_fire")} == {
        "name": "it",
        "task": TASK,
        "when": {"every_s": 3600.0},
        "overlap": "skip",
        "catch_up": "last",
        "jitter_s": 0.0,
        "last_fire": None,
    }
    found = [datetime.fromisoformat(text) for text in shown["next_fires"]]
    assert [later - at for at, later in itertools.pairwise(found)] == [timedelta(hours=1)] * 4
    assert abs((found[0] - datetime.now(UTC)).total_seconds() - 3600) < 60
    assert doors.send("GET", f"{SCHEDULES}{shown['id']}/").json() == shown


@pytest.mark.parametrize(
    ("when", "shown"),
    [
        ({"cron": "30 2 * * mon"}, {"cron": "30 2 * * mon", "timezone": "UTC"}),
        ({"cron": "0  9 1 */3 *", "timezone": "Asia/Tokyo"}, {"cron": "0 9 1 */3 *", "timezone": "Asia/Tokyo"}),
        ({"every_s": 5}, {"every_s": 5.0}),
        ({"at": "2990-01-01T00:00:00+01:00"}, {"at": "2989-12-31T23:00:00Z"}),
        (
            {"solar": {"event": "sunrise", "latitude": 47.37, "longitude": 8}},
            {"solar": {"event": "sunrise", "latitude": 47.37, "longitude": 8.0}},
        ),
    ],
)
def test_it_fires_by_a_cron_line_an_interval_an_instant_or_the_sun(
    doors: Doors, when: dict[str, Any], shown: dict[str, Any]
) -> None:
    schedule = made(doors, **when)
    assert schedule["when"] == shown
    assert len(schedule["next_fires"]) == (1 if "at" in when else 5)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "* * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "timezone"),
        ({"every_s": 5, "timezone": "UTC"}, "timezone"),
        ({"every_s": 5, "cron": "* * * * *"}, "cron"),
        ({"every_s": 0}, "every_s"),
        ({"every_s": 1.5}, "every_s"),
        ({"every_s": True}, "every_s"),
        ({"at": "tomorrow"}, "at"),
        ({"at": "2990-01-01T00:00:00"}, "at"),
        ({"at": "2020-01-01T00:00:00Z"}, "at"),
        ({"solar": {"event": "sunrise", "latitude": 91, "longitude": 8}}, "solar.latitude"),
        ({"solar": {"event": "lunch", "latitude": 9, "longitude": 8}}, "solar.event"),
        ({"solar": {"event": "sunset", "latitude": 9, "longitude": 8, "x": 1}}, "solar.x"),
        ({"solar": "sunrise"}, "solar"),
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"overlap": "both"}, "overlap"),
        ({"catch_up": None}, "catch_up"),
        ({"jitter_s": -1}, "jitter_s"),
        ({"priority": "high"}, "priority"),
        ({"at": "9999-12-31T23:59:59-01:00"}, "at"),
        ({"cron": "0" + ",0" * 150 + " * * * *"}, "cron"),
        ({"task": {**TASK, "message": {"parts": [{"text": "a\x00"}]}}}, "task"),
        ({"task": None}, "task"),
        ({"task": {**TASK, "agent": "nobody"}}, "task.agent"),
        ({"task": {**TASK, "run_after": "2990-01-01T00:00:00Z"}}, "task.run_after"),
        ({"task": {**TASK, "message": {"messageId": "m", "parts": [{"text": "x"}]}}}, "task.message.messageId"),
        ({"task": {**TASK, "message": {"parts": []}}}, "task.message.parts"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_left(doors: Doors, fields: dict[str, Any], field: str) -> None:
    assert wrong(make(doors, **fields)) == [field]
    models = (Schedule, CrontabSchedule, IntervalSchedule, SolarSchedule, ClockedSchedule)
    assert not any(model._default_manager.exists() for model in models)


def test_one_without_a_time_is_refused(doors: Doors) -> None:
    assert wrong(doors.send("POST", SCHEDULES, **content({"name": "it", "task": TASK}))) == ["cron"]


def test_a_name_is_used_once_by_each_client(doors: Doors) -> None:
    made(doors)
    assert wrong(make(doors)) == ["name"]
    _, key = ApiKey.issue(Client.objects.create(name="other"))
    assert doors.send("POST", SCHEDULES, **content(body(), **{"x-api-key": key})).status_code == 201


def test_of_equal_rows_of_beats_one_is_taken(doors: Doors) -> None:
    for _ in range(2):
        IntervalSchedule.objects.create(every=7, period="seconds")
        CrontabSchedule.objects.create(minute="7", timezone=ZoneInfo("UTC"))
    assert made(doors, every_s=7)["when"] == {"every_s": 7.0}
    assert made(doors, name="other", cron="7 * * * *")["when"] == {"cron": "7 * * * *", "timezone": "UTC"}
    assert (IntervalSchedule.objects.count(), CrontabSchedule.objects.count()) == (2, 2)


def test_it_is_changed_under_its_lock(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that fires it, or whoever pauses it, comes before or after, and not between."""
    schedule = made(doors)
    path, asked_for = f"{SCHEDULES}{schedule['id']}/", asked.put
    locks: list[bool] = []

    def seen(*args: Any, **kwargs: Any) -> Any:
        with psycopg.connect(**conninfo()) as other, pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT 1 FROM tasks_app_schedule WHERE id = %s FOR UPDATE NOWAIT", [schedule["id"]])
        locks.append(True)
        return asked_for(*args, **kwargs)

    monkeypatch.setattr(asked, "put", seen)
    assert doors.send("PATCH", path, **content({"overlap": "queue"})).status_code == 200
    assert locks == [True]


def test_what_is_changed_is_changed_and_another_time_counts_from_now(doors: Doors) -> None:
    schedule = made(doors)
    path = f"{SCHEDULES}{schedule['id']}/"
    changed = doors.send("PATCH", path, **content({"overlap": "queue", "name": "other"})).json()
    assert changed == {**schedule, "overlap": "queue", "name": "other"}
    changed = doors.send("PATCH", path, **content({"every_s": 60})).json()
    assert changed["when"] == {"every_s": 60.0}
    assert datetime.fromisoformat(changed["next_fires"][0]) < datetime.now(UTC) + timedelta(seconds=61)
    assert wrong(doors.send("PATCH", path, **content({"jitter_s": "x"}))) == ["jitter_s"]
    assert doors.send("GET", path).json() == changed


def test_it_is_paused_resumed_run_and_its_history_shown(doors: Doors) -> None:
    schedule = made(doors)
    assert act(doors, schedule, "resume").status_code == 409
    paused = act(doors, schedule, "pause").json()
    assert (paused["paused_at"] is None, paused["next_fires"]) == (False, [])
    assert act(doors, schedule, "pause").status_code == 409
    assert len(act(doors, schedule, "resume").json()["next_fires"]) == 5
    ran = act(doors, schedule, "run")
    assert (ran.status_code, ran.json()["outcome"], ran.json()["is_manual"]) == (201, "started", True)
    assert ran.json()["task_id"] == str(Task.objects.get().id)
    Schedule.objects.update(next_at=datetime.now(UTC) - timedelta(seconds=1))
    assert fire.fire_due() == 1
    history = doors.send("GET", f"{SCHEDULES}{schedule['id']}/fires/").json()["results"]
    assert [(each["outcome"], each["is_manual"]) for each in history] == [("skipped", False), ("started", True)]
    assert f"task {ran.json()['task_id']} has not ended" in history[0]["reason"]


def test_one_that_fires_once_has_fired_then(doors: Doors) -> None:
    schedule = made(doors, at="2990-01-01T00:00:00Z")
    assert fire.fire_due(now=datetime(2990, 1, 1, tzinfo=UTC)) == 1
    shown = doors.send("GET", f"{SCHEDULES}{schedule['id']}/").json()
    assert (shown["next_fires"], shown["last_fire"]["outcome"]) == ([], "started")


def test_it_is_deleted_and_its_tasks_stay(doors: Doors) -> None:
    schedule = made(doors)
    act(doors, schedule, "run")
    assert doors.send("DELETE", f"{SCHEDULES}{schedule['id']}/").status_code == 204
    assert (Schedule.objects.count(), Fire.objects.count(), Task.objects.count()) == (0, 0, 1)


def test_another_clients_looks_like_none(doors: Doors) -> None:
    _, key = ApiKey.issue(Client.objects.create(name="other"))
    theirs = doors.send("POST", SCHEDULES, **content(body(), **{"x-api-key": key})).json()["id"]
    assert doors.send("GET", SCHEDULES).json()["results"] == []
    for unknown in (theirs, str(uuid4()), "x"):
        for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "run/"), ("GET", "fires/")):
            reply = doors.send(method, f"{SCHEDULES}{unknown}/{path}", **(content({}) if method == "PATCH" else {}))
            assert (reply.status_code, reply.json()["detail"]) == (404, f"no schedule '{unknown}'")
    assert Schedule.objects.count() == 1


def test_they_are_listed_newest_first_by_cursor(doors: Doors) -> None:
    all_of = [made(doors, name=str(number)) for number in range(3)]
    page = doors.send("GET", f"{SCHEDULES}?page_size=2").json()
    assert page["results"] == all_of[:0:-1]
    assert doors.send("GET", page["next"]).json()["results"] == all_of[:1]
    assert wrong(doors.send("GET", f"{SCHEDULES}?x=1")) == ["x"]
