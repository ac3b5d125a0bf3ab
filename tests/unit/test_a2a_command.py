"""``manage.py a2a``: what operators do and look at from a shell; exit code 0 done, 1 nothing changed, 2 wrong usage."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from tasks_app import authentication
from tasks_app.models import ApiKey, Client, QueueControl, Task, Worker
from tasks_app.wakeups import DISPATCH, LOOK, Ring
from tests.factory import Factory
from tests.unit.test_checks import manage


def a2a(*arguments: Any) -> tuple[int, list[str]]:
    """The exit code, and the lines it says."""
    out = io.StringIO()
    try:
        call_command("a2a", *map(str, arguments), stdout=out)
    except SystemExit as left:
        return int(left.code or 0), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("scope", "name"), [("lane", "cpu"), ("queue", "a2a.io.low"), ("agent", "echo"), ("client", "owner")]
)
def test_pauses_and_resumes(owner: Client, bells: list[Ring], scope: str, name: str) -> None:
    assert a2a("pause", scope, name) == (0, [f"paused {scope} {name}"])
    assert a2a("pause", scope, name) == (1, [f"nothing changed: {scope} {name} was paused before"])
    assert QueueControl.objects.exists() or Client.objects.get().paused_at is not None
    assert a2a("resume", scope, name) == (0, [f"resumed {scope} {name}"])
    assert a2a("resume", scope, name) == (1, [f"nothing changed: {scope} {name} was not paused before"])
    assert bells == [(DISPATCH, LOOK)] * 2


def test_names_what_there_is_where_there_is_no_such_thing(db: None) -> None:
    assert a2a("pause", "lane", "gpu") == (1, ["no lane 'gpu'; there are: cpu, io"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["pause", "planet", "x"],
        ["pause", "lane"],
        ["cancel"],
        ["cancel", "x"],
        ["priority", "urgent", str(uuid4())],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_refused(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        a2a(*arguments)


def test_cancels_and_counts_those_that_could_not_be(factory: Factory) -> None:
    waits, ended, unknown = factory.pending(), factory.finished(), uuid4()
    code, said = a2a("cancel", waits, ended, unknown, waits)
    assert (code, said) == (0, [f"cancelled {waits}", "cancelled 1 of 3: the others have ended or are unknown"])
    assert Task.objects.get(id=waits).status == "cancelled"
    assert a2a("cancel", waits)[0] == 1


@pytest.mark.parametrize("word", ["rerun", "retry"])
def test_runs_again(factory: Factory, word: str) -> None:
    ended, waits = factory.finished(), factory.pending()
    code, said = a2a(word, ended)
    made = Task.objects.get(rerun_of=ended)
    assert (code, said) == (0, [f"made {made.id}"])
    assert a2a(word, waits)[0] == 1


def test_changes_the_priority_of_what_waits(factory: Factory) -> None:
    waits, runs = factory.pending(), factory.claimed().task_id
    waits = factory.pending()
    code, said = a2a("priority", "critical", waits, runs)
    assert (code, said) == (0, [f"{waits} is critical", "changed 1 of 2: the others do not wait or are unknown"])
    assert Task.objects.get(id=waits).priority == 0
    assert a2a("priority", "low", runs)[0] == 1


def test_shows_queues_to_people_and_to_programs(factory: Factory) -> None:
    factory.pending()
    a2a("pause", "agent", "echo")
    code, said = a2a("queues")
    assert code == 0
    assert ["agent", "echo", "paused", "1", "0", "0", "0", "-", "-"] in [line.split() for line in said]
    code, said = a2a("queues", "--json")
    rows = {(row["scope"], row["name"]): row for row in json.loads("\n".join(said))}
    assert rows["agent", "echo"]["waiting"] == 1
    assert rows["agent", "echo"]["paused_at"] is not None
    assert rows["queue", "a2a.cpu.critical"]["running"] == 0


def test_shows_workers_to_people_and_to_programs(factory: Factory) -> None:
    now = timezone.now()
    common: dict[str, Any] = {"lane": "io", "hostname": "h", "pid": 1, "slots": 8, "started_at": now}
    Worker.objects.create(name="worker-1", agents=["echo"], memory_mb=512, heartbeat_at=now, **common)
    factory.claimed()
    code, said = a2a("workers")
    assert code == 0
    assert [line.split()[:8] for line in said[1:]] == [["worker-1", "io", "online", "1", "8", "512", "-", "-"]]
    (row,) = json.loads("\n".join(a2a("workers", "--json")[1]))
    assert (row["name"], row["state"], row["running"], row["agents"]) == ("worker-1", "online", 1, ["echo"])


def test_a_shell_gets_the_exit_code_and_one_line_where_the_usage_is_wrong_or_the_database_is_away() -> None:
    done = manage("a2a", "pause", "planet", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "invalid choice: 'planet'" in done.stderr
    done = manage("a2a", "queues", DATABASE_URL="postgresql://a2a@127.0.0.1:9/a2a")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("the database cannot be reached: ")
    assert "Traceback" not in done.stderr


def test_keys_are_issued_listed_rotated_and_revoked(owner: Client) -> None:
    code, (text,) = a2a("keys", "issue", "owner", "--name", "ci", "--scope", "tasks:read", "--days", "30")
    old = ApiKey.objects.get()
    assert (code, text.startswith(f"a2a_{old.prefix}_"), old.scopes, old.name) == (0, True, ["tasks:read"], "ci")
    assert authentication.identify({"x-api-key": text}, None).name == "owner"
    code, (successor,) = a2a("keys", "rotate", old.prefix, "--grace-hours", "2")
    new = ApiKey.objects.get(predecessor=old)
    assert (code, successor.startswith(f"a2a_{new.prefix}_")) == (0, True)
    code, said = a2a("keys", "list")
    assert (code, [line.split()[:4] for line in said[1:]]) == (
        0,
        [[key.prefix, "owner", "ci", "tasks:read"] for key in (old, new)],
    )
    assert text.split("_", 2)[2] not in "".join(said)
    assert a2a("keys", "revoke", new.prefix) == (0, [f"revoked a2a_{new.prefix}_…"])
    assert a2a("keys", "revoke", new.prefix)[0] == 1
    for prefix in (old.prefix, new.prefix, "nothing"):
        assert a2a("keys", "rotate", prefix)[0] == 1


def test_a_key_needs_a_client_that_is_there_and_scopes_that_are_some(owner: Client) -> None:
    assert a2a("keys", "issue", "nobody") == (1, ["no client 'nobody'; there are: owner"])
    for wrong in (["--scope", "a b"], ["--days", "-1"], ["--days", "nan"], ["--days", "x"]):
        with pytest.raises(CommandError):
            a2a("keys", "issue", "owner", *wrong)
    with pytest.raises(CommandError):
        a2a("keys")
    assert not ApiKey.objects.exists()
