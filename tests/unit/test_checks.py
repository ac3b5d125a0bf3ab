"""System checks of the settings, and what ``manage.py a2a`` makes of them. Ids are a promise: they never change."""

from __future__ import annotations

import importlib.util
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from pytest_django import Settings

from tasks_app import agents, checks

ROOT = Path(__file__).resolve().parents[2]
Check = Callable[..., list[CheckMessage]]
#: What may come from this machine; everything else of the environment could change what is tested.
NEUTRAL = {"PATH": os.environ["PATH"], "A2A_DEBUG": "0", "A2A_OPEN_MODE": "0", "A2A_BROKER_URL": "memory://"}
PRODUCTION = {
    "A2A_BROKER_URL": "amqp://tasks:secret@broker.example:5672/a2a",
    "A2A_ALLOWED_HOSTS": "tasks.example",
    "A2A_TLS": "1",
    "A2A_PUBLIC_URL": "https://tasks.example",
}


def ids(check: Check, **arguments: Any) -> list[str | None]:
    found = check(app_configs=None, **arguments)
    assert all(message.hint for message in found), "every message says what to do"
    return [message.id for message in found]


def test_the_settings_of_the_tests_are_fine(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]  # without the test client's own
    every = [
        checks.secret_key,
        checks.registered_agents,
        checks.numbers,
        checks.leases,
        checks.broker,
        checks.broker_options,
    ]
    every += [checks.database_engine, checks.open_mode, checks.public_url, checks.token_issuers, checks.agent_cards]
    every += [checks.push_notifications, checks.artifact_storage]
    assert [ids(check) for check in every] == [[]] * len(every)


def test_an_empty_secret_key_is_an_error_that_names_the_variable(settings: Settings) -> None:
    settings.SECRET_KEY = ""
    assert ids(checks.secret_key) == ["a2a.E001"]
    assert "A2A_SECRET_KEY" in checks.secret_key()[0].msg


def test_a_default_agent_must_be_registered(settings: Settings) -> None:
    settings.A2A_DEFAULT_AGENT = "nobody"
    assert ids(checks.registered_agents) == ["a2a.E002"]
    assert "echo" in str(checks.registered_agents()[0].hint)


@pytest.mark.parametrize("name", ["Echo", "-echo", "e cho", "echo/1", "", "e" * 64, "echo\n"])
def test_an_agents_name_stands_in_addresses(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(agents._registry, name, agents.get("echo"))
    assert ids(checks.registered_agents) == ["a2a.E003"]


@pytest.mark.parametrize("name", checks.POSITIVE)
def test_sizes_and_times_are_above_zero(settings: Settings, name: str) -> None:
    setattr(settings, name, 0)
    assert ids(checks.numbers) == ["a2a.E004"]


@pytest.mark.parametrize(
    ("heartbeat_s", "sweep_s", "republish_s", "expected"),
    [
        (9.9, 5, 2, []),
        (10, 5, 2, ["a2a.E005"]),
        (5, 30, 2, []),
        (5, 31, 2, ["a2a.W001"]),
        (5, 5, 30, ["a2a.W002"]),
    ],
)
def test_heartbeat_sweep_and_republish_fit_the_lease(
    settings: Settings, heartbeat_s: float, sweep_s: float, republish_s: float, expected: list[str]
) -> None:
    settings.A2A_LEASE_S = 30.0
    settings.A2A_HEARTBEAT_S, settings.A2A_SWEEP_S, settings.A2A_REPUBLISH_S = heartbeat_s, sweep_s, republish_s
    assert ids(checks.leases) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqps://u:p@host/v", []),
        ("redis+socket:///run/redis.sock?virtual_host=1", []),
        ("sqs://", ["a2a.W007"]),
        ("memory://", ["a2a.W003"]),
        ("filesystem://", ["a2a.E006"]),
        ("localhost:5672", ["a2a.E006"]),
        ("", ["a2a.E006"]),
    ],
)
def test_only_brokers_that_can_carry_tasks_are_allowed(settings: Settings, url: str, expected: list[str]) -> None:
    settings.CELERY_BROKER_URL = url
    assert ids(checks.broker) == expected


def test_sqs_needs_two_libraries_of_its_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CELERY_BROKER_URL = "sqs://"
    monkeypatch.setattr(checks, "SQS_NEEDS", ("boto3", "no_such_library"))
    assert ids(checks.broker) == ["a2a.E015"]
    assert "no_such_library" in checks.broker()[0].msg


@pytest.mark.parametrize(
    ("text", "told"),
    [("", ""), ('{"region":"eu-central-1"}', ""), ("{region", "it is no JSON"), ("[1]", "list in place of an object")],
)
def test_the_brokers_options_are_a_json_object(settings: Settings, text: str, told: str) -> None:
    settings.A2A_BROKER_OPTIONS = text
    assert ids(checks.broker_options) == (["a2a.E013"] if told else [])
    assert all(told in message.msg and "A2A_BROKER_OPTIONS" in message.msg for message in checks.broker_options())


@pytest.mark.parametrize(("prefix", "expected"), [("staging.", []), ("a/b", ["a2a.E014"]), ("x" * 41, ["a2a.E014"])])
def test_a_queues_prefix_is_one_that_every_broker_can_hold(
    settings: Settings, prefix: str, expected: list[str]
) -> None:
    settings.A2A_QUEUE_PREFIX = prefix
    assert ids(checks.broker_options) == expected


def test_the_database_is_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(django_settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    assert ids(checks.database_engine) == ["a2a.E007"]
    assert ids(checks.database_server, databases=["default"]) == []


def test_no_database_is_asked_where_django_asks_for_none() -> None:
    assert ids(checks.database_server) == []


def test_the_open_mode_is_for_loopback(settings: Settings) -> None:
    settings.A2A_OPEN_MODE, settings.DEBUG = True, False
    settings.ALLOWED_HOSTS = ["localhost", "tasks.example"]
    assert ids(checks.open_mode) == ["a2a.E010"]
    settings.DEBUG = True
    assert ids(checks.open_mode) == ["a2a.W004"]
    settings.A2A_OPEN_MODE = False
    assert ids(checks.open_mode) == []


def test_a_deployment_is_never_open(settings: Settings) -> None:
    settings.A2A_OPEN_MODE = True
    assert ids(checks.open_mode_in_production) == ["a2a.E012"]


@pytest.mark.parametrize(
    ("url", "tls", "expected"),
    [
        ("https://tasks.example/base", True, []),
        ("tasks.example", True, ["a2a.E011"]),
        ("http://tasks.example", True, ["a2a.W005"]),
        ("http://tasks.example", False, []),
    ],
)
def test_the_public_address_is_one(settings: Settings, url: str, tls: bool, expected: list[str]) -> None:
    settings.A2A_PUBLIC_URL, settings.A2A_TLS = url, tls
    assert ids(checks.public_url) == expected


def test_guest_is_for_loopback(settings: Settings) -> None:
    settings.CELERY_BROKER_URL = "amqp://guest:guest@broker.example//"
    assert ids(checks.broker_guest) == ["a2a.W006"]
    settings.CELERY_BROKER_URL = "amqp://guest:guest@127.0.0.1//"
    assert ids(checks.broker_guest) == []


# --- the commands, as an operator runs them ---


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``manage.py`` in an environment that holds nothing of this machine's but PATH and what is given."""
    command = [sys.executable, "manage.py", *arguments]
    env = {**NEUTRAL, "A2A_SECRET_KEY": secrets.token_urlsafe(64), **variables}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def test_production_settings_pass_djangos_deploy_checks_without_a_warning() -> None:
    done = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout + done.stderr


def test_a_deployment_in_the_open_mode_fails_djangos_deploy_checks() -> None:
    done = manage("check", "--deploy", **PRODUCTION | {"A2A_OPEN_MODE": "1"})
    assert done.returncode == 1
    assert "a2a.E012" in done.stderr


def test_an_empty_secret_key_stops_every_command_with_a_clear_line() -> None:
    done = manage("check", A2A_SECRET_KEY="")
    assert done.returncode == 1
    assert "(a2a.E001) A2A_SECRET_KEY is empty." in done.stderr


def test_a_wrong_configuration_is_told_by_id_and_hint_and_ends_with_a_verdict() -> None:
    away = "postgresql://nobody@127.0.0.1:9/none"
    done = manage("a2a", "--validate-config", A2A_DEFAULT_AGENT="nobody", A2A_TLS="0", DATABASE_URL=away)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert "error    a2a.E002: A2A_DEFAULT_AGENT names 'nobody', which is no registered agent." in lines
    assert any(line.startswith("         hint: There are: ") for line in lines)
    assert any(line.startswith("error    a2a.E008: PostgreSQL cannot be reached") for line in lines)
    assert any(line.startswith("warning  security.W008") for line in lines), "deploy checks are warnings"
    assert lines[-1].startswith("configuration: 2 errors, ")


def test_without_a_flag_the_command_explains_itself() -> None:
    done = manage("a2a")
    assert (done.returncode, done.stderr) == (2, "")
    assert "--validate-config" in done.stdout
    assert "--validate-queues" in done.stdout


def test_with_both_flags_both_run_and_the_worst_exit_code_wins() -> None:
    done = manage(
        "a2a",
        "--validate-config",
        "--validate-queues",
        A2A_DEFAULT_AGENT="nobody",
        A2A_BROKER_URL="redis://127.0.0.1:9/0",
    )
    assert done.returncode == 2
    assert "a2a.E002" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("queues: the broker at redis://:**@127.0.0.1:9/0 cannot be used")


def test_queues_are_validated_over_a_transport_that_knows_no_types() -> None:
    done = manage("a2a", "--validate-queues")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in lines[-2:]] == ["a2a.system", "queues:"]  # and no dead letters
    assert all("consumers -" in line for line in lines[:-1])
    assert lines[-1].startswith("queues: ok (9 at memory://")


def test_issuers_that_cannot_be_read_are_an_error_that_says_where(settings: Settings) -> None:
    settings.A2A_JWT_ISSUERS = '[{"issuer":"https://login.example","audience":"a2a"}]'
    assert ids(checks.token_issuers) == ["a2a.E020"]
    assert "[0]: must have exactly one of jwks_url" in checks.token_issuers()[0].msg
    assert ids(checks.agent_cards) == []


def test_a_card_names_a_whole_provider(settings: Settings) -> None:
    settings.A2A_PROVIDER_NAME = "Lab Ltd"
    assert ids(checks.agent_cards) == ["a2a.E021"]
    settings.A2A_PROVIDER_URL = "https://lab.example"
    assert ids(checks.agent_cards) == []


def test_a_key_that_cannot_sign_cards_is_an_error(settings: Settings, tmp_path: Path) -> None:
    for key in (str(tmp_path / "missing.pem"), "-----BEGIN nonsense"):
        settings.A2A_CARD_SIGNING_KEY = key
        assert ids(checks.agent_cards) == ["a2a.E022"]


def test_a_card_that_lacks_what_a2a_requires_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = copy(agents.get("echo"))
    object.__setattr__(echo, "version", "")  # what its declaration would have refused
    monkeypatch.setattr(agents, "_registry", {**agents.registered(), "echo": echo})
    assert ids(checks.agent_cards) == ["a2a.E023"]
    assert checks.agent_cards()[0].msg == "The card of 'echo' lacks version."


def test_keys_that_seal_nothing_are_errors_that_do_not_show_them(settings: Settings) -> None:
    settings.A2A_SECRET_KEYS = [Fernet.generate_key().decode(), "too-short-a-key", ""]
    assert ids(checks.push_notifications) == ["a2a.E016"] * 2
    assert "key 2" in checks.push_notifications()[0].msg
    assert "too-short" not in str(checks.push_notifications()[0])


def test_exceptions_of_addresses_that_cannot_be_read_are_errors(settings: Settings) -> None:
    settings.A2A_PUSH_ALLOWED = ["hooks.internal:8443", "10.0.0.1/8", "10.0.0.0/8"]
    assert ids(checks.push_notifications) == ["a2a.E017"]
    assert "10.0.0.1/8" in checks.push_notifications()[0].msg


@pytest.mark.parametrize("places", [[], ["blobs"], ["s3://"], ["database", "ftp://x/y"]])
def test_a_place_where_no_content_can_stand_is_an_error(settings: Settings, places: list[str]) -> None:
    settings.A2A_ARTIFACT_STORAGE = places
    assert ids(checks.artifact_storage) == ["a2a.E018"]


def test_s3_without_its_library_is_an_error_that_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.A2A_ARTIFACT_STORAGE = ["s3://bucket"]
    assert ids(checks.artifact_storage) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ids(checks.artifact_storage) == ["a2a.E019"]
