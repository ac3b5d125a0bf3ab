"""The files of a deployment agree: compose with its schema, the Procfile, the settings and ``.env.example``."""

from __future__ import annotations

import ast
import importlib.util
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest
import yaml
from django.db import connection
from django.utils import timezone
from honcho.environ import parse_procfile

from tasks_app.models import Worker

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
PROCFILE: dict[str, str] = dict(parse_procfile((ROOT / "Procfile").read_text()).processes)
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")
LOOPBACK = "127.0.0.1"


# --- compose ---


def test_compose_is_valid_by_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", PROCFILE)
def test_every_process_of_the_procfile_runs_the_same_command_in_compose(name: str) -> None:
    assert _bare(_command(SERVICES[name])) == _bare(PROCFILE[name])


def test_a_restarted_worker_gets_a_new_name_though_its_pid_is_the_same() -> None:
    names = [re.search(r"-n (\S.*?)@%h", _command(SERVICES[name])) for name in PROCFILE if name.startswith("worker")]
    assert all(name is not None and "$(date +%s)" in name[1] for name in names)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_says_how_it_is_checked_restarted_and_stopped(name: str) -> None:
    service = SERVICES[name]
    assert service["stop_grace_period"]
    assert service["logging"]["options"]["max-size"]
    if name == "migrate":
        assert (service["restart"], service["healthcheck"]) == ("no", {"disable": True})
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]


def test_only_what_has_clients_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"web", "grpc", "flower", "prometheus"}
    assert all(_with_defaults(port).startswith(f"{LOOPBACK}:") for ports in published.values() for port in ports)


def test_no_password_has_a_default() -> None:
    secrets = [match for match in VARIABLE.finditer(COMPOSE_TEXT) if re.search("PASSWORD|SECRET|KEY", match[1])]
    assert len(secrets) >= 4
    assert all(match[2] == "?" and match[3] for match in secrets)


def test_nothing_of_ours_starts_before_the_tables_are_up_to_date() -> None:
    for name, service in OURS.items():
        if name != "migrate":
            assert service["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    waits = [each["condition"] for each in SERVICES["migrate"]["depends_on"].values()]
    assert waits == ["service_healthy"] * 2


def test_production_is_never_open_nor_in_debug_whatever_the_env_file_says() -> None:
    for service in OURS.values():
        assert (service["environment"]["A2A_OPEN_MODE"], service["environment"]["A2A_DEBUG"]) == ("0", "0")


def test_volumes_are_declared_and_mounted_files_exist() -> None:
    sources = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert {source for source in sources if not source.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / source).is_file() for source in sources if source.startswith("."))


def test_prometheus_scrapes_services_that_are_there() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    static = [entry for job in config["scrape_configs"] for entry in job.get("static_configs", [])]
    hosts = {target.split(":")[0] for entry in static for target in entry["targets"]} - {LOOPBACK}
    assert hosts == {"rabbitmq", "flower"}
    assert hosts <= set(SERVICES)


def test_prometheus_scrapes_every_process_that_counts_at_the_port_it_is_given() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    found = {job["job_name"]: job["dns_sd_configs"][0] for job in config["scrape_configs"] if "dns_sd_configs" in job}
    variables = {
        "web": "A2A_WEB_METRICS_PORT",
        "dispatcher": "A2A_DISPATCHER_METRICS_PORT",
        "worker-cpu": "A2A_CPU_METRICS_PORT",
        "worker-io": "A2A_IO_METRICS_PORT",
        "worker-system": "A2A_SYSTEM_METRICS_PORT",
        "grpc": "A2A_GRPC_METRICS_PORT",
    }
    assert set(found) == set(variables)
    for name, variable in variables.items():
        environment = SERVICES[name]["environment"]
        assert (found[name]["names"], str(found[name]["port"])) == ([name], environment[variable])
        assert environment["A2A_METRICS_HOST"] == "0.0.0.0"  # noqa: S104 (inside compose's own network)


def test_the_image_holds_what_runs_and_nothing_else() -> None:
    kept = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "stack", "benchmarks", "examples"}
    assert kept == packages | {"manage.py", "requirements.txt", "deploy/health.py"}
    assert "--require-hashes" in (ROOT / "Dockerfile").read_text()


# --- the environment ---


def test_every_variable_the_settings_read_is_documented_and_the_other_way_round() -> None:
    used = set(_settings_variables()) | {match[1] for match in VARIABLE.finditer(COMPOSE_TEXT)}
    used |= {match[1] for command in PROCFILE.values() for match in VARIABLE.finditer(command)}
    assert set(_documented()) == used


def test_documented_defaults_are_those_of_the_settings() -> None:
    documented = _documented()
    defaults = {name: default for name, default in _settings_variables().items() if default is not None}
    assert {name: documented[name] for name in defaults} == defaults


def test_every_documented_variable_says_what_it_is() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    for number, line in enumerate(lines):
        if _NAME.match(line):
            before = lines[number - 1]
            assert before.startswith("# ") or _NAME.match(before), f"nothing explains {line}"


# --- health checks ---


def test_compose_asks_for_checks_that_exist(health: Any) -> None:
    asked = [service["healthcheck"]["test"] for name, service in OURS.items() if name != "migrate"]
    assert all(test[:3] == ["CMD", "python", "deploy/health.py"] for test in asked)
    assert {name for test in asked for name in test[3:]} == set(health.CHECKS)


def test_an_unknown_check_or_none_is_a_failure(health: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert (health.main(["nonsense"]), health.main([])) == (1, 1)
    assert "no check 'nonsense'; there are: web, flower" in capsys.readouterr().err


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_container_without_a_connection_to_its_broker_is_unhealthy(
    health: Any, monkeypatch: pytest.MonkeyPatch, family: socket.AddressFamily, host: str
) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listener.listen()
        port = listener.getsockname()[1]
        url_host = f"[{host}]" if ":" in host else host
        monkeypatch.setenv("A2A_BROKER_URL", f"amqp://user:secret@{url_host}:{port}/a2a")
        assert health.main(["broker"]) == 1
        with socket.create_connection((host, port)):
            assert health.main(["broker"]) == 0


def test_no_standing_connection_is_asked_of_sqs(health: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_BROKER_URL", "sqs://")
    assert health.main(["broker"]) == 0


@pytest.mark.django_db(transaction=True)
def test_a_process_that_is_silent_at_the_database_is_unhealthy(health: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", _conninfo())
    Worker.objects.count()
    assert health.main(["database"]) == 0
    monkeypatch.setattr(health, "SILENCE_MAX_S", -1)
    assert health.main(["database"]) == 1


@pytest.mark.django_db(transaction=True)
def test_a_worker_whose_heartbeat_is_old_is_unhealthy(health: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", _conninfo())
    assert health.main(["worker"]) == 1
    now = timezone.now()
    row = Worker.objects.create(
        name="w", lane="io", hostname=socket.gethostname(), pid=1, slots=1, started_at=now, heartbeat_at=now
    )
    assert health.main(["worker"]) == 0
    Worker.objects.filter(pk=row.pk).update(heartbeat_at=now - timedelta(minutes=1))
    assert health.main(["worker"]) == 1


def test_a_web_process_that_does_not_answer_is_unhealthy(health: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        unanswered = f"http://{LOOPBACK}:{taken.getsockname()[1]}/healthz"
        with pytest.raises(OSError, match="refused"):
            health._http_ok(unanswered)


@pytest.fixture(scope="module")
def health() -> Any:
    """``deploy/health.py``, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("health", ROOT / "deploy" / "health.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_NAME = re.compile(r"#?([A-Z][A-Z0-9_]+)=(.*)$")


def _documented() -> dict[str, str]:
    found = [_NAME.match(line) for line in (ROOT / ".env.example").read_text().splitlines()]
    names = [match[1] for match in found if match]
    assert len(names) == len(set(names)), "a variable stands there twice"
    return {match[1]: match[2] for match in found if match}


def _settings_variables() -> dict[str, str | None]:
    """The names that the settings read, each with its default as .env would say it; None if it is computed."""
    found: dict[str, str | None] = {}
    for call in ast.walk(ast.parse((ROOT / "a2a_project" / "settings.py").read_text())):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "env" and call.func.attr != "read_env":
            name = ast.literal_eval(call.args[0])
            found[name] = _default(next(word.value for word in call.keywords if word.arg == "default"))
    return found


def _default(node: ast.expr) -> str | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return None if value else ""
    return str(value)


def _command(service: dict[str, Any]) -> str:
    """A service's command as its shell or its process sees it, where no variable is set."""
    command = service["command"]
    if isinstance(command, list):
        assert command[:2] == ["sh", "-c"]
        command = command[2].removeprefix("exec ")
    return _with_defaults(command).replace("$$", "$")


def _with_defaults(text: str) -> str:
    return VARIABLE.sub(lambda match: match[3] or "", text)


def _bare(command: str) -> str:
    """Without what must differ in a container: the address to bind, and the end of a worker's name."""
    command = _with_defaults(command).replace("0.0.0.0", LOOPBACK)  # noqa: S104 (compares, binds nothing)
    return re.sub(r"-n (\w+)-\S.*?@%h", r"-n \1@%h", command)


def _conninfo() -> str:
    params = connection.get_connection_params()
    keep = ("dbname", "user", "password", "host", "port")
    return psycopg.conninfo.make_conninfo(**{name: params[name] for name in keep if params.get(name)})
