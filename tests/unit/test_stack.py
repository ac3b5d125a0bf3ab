"""The parts of `stack` that start no server: generated files, ports, addresses, the choice of what to embed."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from stack import envfile, install, paths
from stack.config import APP, DATA, Program, escaped, supervisord_config
from stack.data.base import Place
from stack.data.container import Container
from stack.data.postgresql import PostgreSQL
from stack.data.redis import Redis, broker_url
from stack.environment import application_env, embedded_roles, servers_for
from stack.errors import StackError
from stack.logs import Follower, set_aside, tail
from stack.ports import FIRST, LAST, Ports, is_free
from stack.processes import Record, parse_record, read_record
from stack.scripts import app_script, read_procfile, select, service_script
from stack.targets import targets, write_targets


def place(root: Path, *, tcp: bool = False) -> Place:
    return Place(
        root=root,
        copies=root / "bin",
        account=None,
        ports=Ports(root / "ports.json"),
        marker="marker",
        tcp=tcp,
        autorestart=True,
    )


def program(name: str, **changes: object) -> Program:
    return Program(name=name, script=Path(f"/s/{name}.sh"), pid_file=Path(f"/p/{name}"), **changes)  # type: ignore[arg-type]


def listening() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


# --- supervisord's configuration ---


def parsed(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(text)
    return parser


def test_every_program_is_in_a_group_and_the_data_stop_last() -> None:
    programs = [program("redis", group=DATA, user="nobody", autostart=True), program("web"), program("beat")]
    config = parsed(supervisord_config(programs, socket=Path("/r/s.sock"), log_dir=Path("/l")))
    assert config["group:app"]["programs"] == "web,beat"
    assert config["group:data"]["programs"] == "redis"
    assert int(config["group:data"]["priority"]) < int(config["group:app"]["priority"])
    assert config["program:redis"]["user"] == "nobody"
    assert "user" not in config["program:web"]
    assert config["unix_http_server"]["file"] == "/r/s.sock"


def test_a_percent_in_a_path_is_doubled_for_supervisord() -> None:
    assert escaped("/a%b/x") == "/a%%b/x"
    text = supervisord_config([program("web")], socket=Path("/50%/s"), log_dir=Path("/50%/logs"))
    assert "stdout_logfile=/50%%/logs/web.log" in text


@pytest.mark.parametrize("path", ['/a"b', "/a ;b", "/a #b", "/a\nb", "/a\\b"])
def test_a_path_that_supervisord_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(StackError):
        escaped(path)


def test_without_autorestart_a_death_is_seen_and_not_mended() -> None:
    config = parsed(
        supervisord_config([program("web", autorestart=False)], socket=Path("/s"), log_dir=Path("/l"), user="root")
    )
    section = config["program:web"]
    assert (section["autorestart"], section["startretries"], section["startsecs"]) == ("false", "0", "0")
    assert section["killasgroup"] == "true"
    assert config["supervisord"]["user"] == "root"


# --- Procfile and scripts ---


def test_the_procfile_keeps_order_and_shell_syntax(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: run ${PORT:-1}\n# no\nworker-cpu: work -n cpu-$$@%h\n")
    commands = read_procfile(tmp_path / "Procfile")
    assert list(commands.items()) == [("web", "run ${PORT:-1}"), ("worker-cpu", "work -n cpu-$$@%h")]
    assert list(select(commands, ["worker-cpu"])) == ["worker-cpu"]
    with pytest.raises(StackError, match="nothing"):
        select(commands, ["nothing"])


def test_a_missing_procfile_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="Procfile"):
        read_procfile(tmp_path / "Procfile")


def test_an_app_script_becomes_the_command_and_records_its_own_pid(tmp_path: Path) -> None:
    folder = tmp_path / "a folder's % ;name"
    folder.mkdir()
    script, pid_file = tmp_path / "web.sh", folder / "web.pid"
    script.write_text(app_script('echo "$$ ${NO_SUCH:-x} %h" "$PWD"', folder=folder, pid_file=pid_file))
    child = subprocess.Popen(["/bin/sh", str(script)], stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate(timeout=10)
    assert out.strip() == f"{child.pid} x %h {folder}"
    record = read_record(pid_file)
    assert record is not None
    assert record.pid == child.pid
    assert not record.is_alive()


def test_a_service_sees_only_the_environment_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_NODENAME", "leaked")
    script = tmp_path / "s.sh"
    env = {"ARGS": "{127,0,0,1} 'x'"}
    script.write_text(service_script(["env"], folder=tmp_path, pid_file=tmp_path / "pid", env=env))
    out = subprocess.run(["/bin/sh", script], capture_output=True, text=True, check=True).stdout
    seen = dict(line.split("=", 1) for line in out.splitlines())
    assert seen.keys() <= {"PATH", "LANG", "ARGS", "PWD"}
    assert seen["ARGS"] == env["ARGS"]


# --- ports ---


def test_a_port_is_chosen_once_and_remembered(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json")
    first = ports.choose("redis")
    assert FIRST <= first <= LAST
    assert Ports(tmp_path / "ports.json").choose("redis") == first == ports.remembered("redis")
    assert ports.choose("postgresql") != first


def test_a_remembered_port_that_was_taken_is_chosen_again(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json")
    with listening() as taken:
        port = taken.getsockname()[1]
        ports._save({"redis": port})
        assert not is_free(port)
        assert ports.choose("redis") != port


def test_the_preferred_port_is_taken_when_it_is_free(tmp_path: Path) -> None:
    with listening() as taken:
        port = taken.getsockname()[1]
        assert Ports(tmp_path / "a.json").choose("flower", preferred=port) != port
    assert Ports(tmp_path / "b.json").choose("flower", preferred=port) == port


def test_a_broken_ports_file_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{")
    assert Ports(tmp_path / "ports.json").remembered("redis") is None


# --- sockets, or ports where the path is too long ---


def test_a_short_path_gives_unix_sockets(tmp_path: Path) -> None:
    root = Path("/short")
    assert Redis(place(root)).url() == "unix:///short/redis/run/redis.sock?db=0"
    assert PostgreSQL(place(root)).url() == "postgresql://a2a@/a2a?host=/short/postgresql/run"


def test_a_path_too_long_for_a_socket_falls_back_to_loopback_with_a_password(tmp_path: Path) -> None:
    redis = Redis(place(tmp_path / ("long" * 30)))
    assert redis.url() is None
    redis.prepare()
    config = (redis.dir / "redis.conf").read_text()
    port = redis.place.ports.remembered("redis")
    password = (redis.dir / "password").read_text()
    assert redis.url() == f"redis://:{password}@127.0.0.1:{port}/0"
    assert f"requirepass {password}" in config
    assert "bind 127.0.0.1" in config
    assert "unixsocket" not in config
    assert "appendonly yes" in config


def test_the_control_socket_of_a_long_path_is_moved(tmp_path: Path) -> None:
    short = Path("/s/.a2a")
    assert paths.control_socket(short / "run", short) == short / "run" / "supervisor.sock"
    state = tmp_path / ("long" * 30)
    state.mkdir()
    moved = paths.control_socket(state / "run", state)
    try:
        assert paths.socket_fits(moved, margin=paths.SUPERVISOR_SOCKET_MARGIN)
        assert (state / paths.OUTSIDE_LINK).resolve() == paths.outside_dir(state)
    finally:
        paths.remove_tree(paths.outside_dir(state))


def test_the_margin_counts_bytes_not_characters() -> None:
    assert paths.socket_fits(Path("/" + "a" * 98))
    assert not paths.socket_fits(Path("/" + "a" * 99))
    assert not paths.socket_fits(Path("/" + "é" * 60))


def test_celery_has_its_own_name_for_a_redis_socket() -> None:
    assert broker_url("unix:///r/redis.sock?db=0") == "redis+socket:///r/redis.sock"
    assert broker_url("unix:///r/redis.sock?db=3") == "redis+socket:///r/redis.sock?virtual_host=3"
    assert broker_url("redis://:p@127.0.0.1:1/0") == "redis://:p@127.0.0.1:1/0"


# --- who may reach what ---


def test_a_closed_ancestor_closes_what_is_below(tmp_path: Path) -> None:
    inner = tmp_path / "home" / "clone"
    inner.mkdir(parents=True)
    (tmp_path / "home").chmod(0o700)
    assert not paths.is_open_to_others(inner)
    assert paths.is_open_to_others(Path("/usr"))


def test_a_folder_of_somebody_else_in_var_tmp_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "room").symlink_to(tmp_path / "theirs")
    monkeypatch.setattr(paths, "outside_dir", lambda state: tmp_path / "room")
    with pytest.raises(StackError, match="not ours"):
        paths.make_outside(tmp_path)


# --- what is embedded, and the environment ---


def test_what_the_environment_names_is_not_embedded() -> None:
    assert embedded_roles({}, None) == {"postgresql", "redis", "broker"}
    assert embedded_roles({"DATABASE_URL": "x"}, None) == {"redis", "broker"}
    assert embedded_roles({"DATABASE_URL": "x", "REDIS_URL": "y", "A2A_BROKER_URL": "z"}, None) == frozenset()
    assert embedded_roles({"DATABASE_URL": "x"}, True) == {"postgresql", "redis", "broker"}
    assert embedded_roles({}, False) == frozenset()
    assert embedded_roles({"REDIS_URL": "x"}, {"redis"}) == {"redis"}
    with pytest.raises(ValueError, match="rabbit"):
        embedded_roles({}, {"rabbit"})


def test_a_broker_uses_the_redis_that_is_given() -> None:
    env = {"REDIS_URL": "redis://h/0"}
    assert servers_for({"broker"}, env) == []
    assert servers_for({"broker"}, {}) == ["redis"]
    assert servers_for({"postgresql", "redis"}, env) == ["postgresql", "redis"]
    made = application_env(env, {}, roles={"broker"}, port=1, ports={}, secret="s")
    assert made["A2A_BROKER_URL"] == "redis://h/0"


def test_the_open_mode_and_secret_given_are_kept() -> None:
    given = {"A2A_OPEN_MODE": "0", "A2A_SECRET_KEY": "mine", "PATH": "/bin"}
    env = application_env(
        given, {"DATABASE_URL": "d"}, roles=(), port=8000, ports={"A2A_FLOWER_PORT": 5555}, secret="made"
    )
    assert (env["A2A_OPEN_MODE"], env["A2A_SECRET_KEY"], env["DATABASE_URL"]) == ("0", "mine", "d")
    assert (env["A2A_PORT"], env["A2A_FLOWER_PORT"]) == ("8000", "5555")
    assert env["PATH"].endswith(os.pathsep + "/bin")


def test_an_env_file_is_private_and_read_back_by_a_shell_and_by_us(tmp_path: Path) -> None:
    env = {"DATABASE_URL": "postgresql://a2a@/a2a?host=/a b/run", "EMPTY": "", "B": "x=y#z"}
    file = tmp_path / "env"
    envfile.write_env(file, env)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert envfile.read_env(file) == env
    shell = f'. {shlex.quote(str(file))} && printf %s "$DATABASE_URL"'
    assert subprocess.run(["sh", "-c", shell], capture_output=True, text=True).stdout == env["DATABASE_URL"]


def test_a_dotenv_file_may_have_comments_exports_and_quotes(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# x=y\nexport A=1\nB = 'two words'\n\nnonsense\n")
    assert envfile.read_env(tmp_path / ".env") == {"A": "1", "B": "two words"}
    assert envfile.read_env(tmp_path / "none") == {}


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    secret = envfile.kept_secret(tmp_path / "s")
    assert len(secret) >= 40
    assert envfile.kept_secret(tmp_path / "s") == secret
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


# --- recognising processes ---


def test_a_record_is_pid_and_start_time_whatever_the_name() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    assert parse_record(f"123 (a) b (c) S {fields}\n") == Record(123, 22)
    assert parse_record("77\n") == Record(77, None)
    assert parse_record("") is None
    assert parse_record("12 (x) S") is None


def test_a_reused_pid_is_not_the_recorded_process() -> None:
    me = read_record(Path(f"/proc/{os.getpid()}/stat"))
    assert me is not None
    assert me.start_ticks is not None
    assert me.is_alive()
    assert not Record(me.pid, me.start_ticks - 1).is_alive()


# --- containers and packages ---


def test_a_container_listens_on_loopback_only_and_keeps_its_data(tmp_path: Path) -> None:
    server = Container(place(tmp_path, tcp=True), "rabbitmq")
    server.prepare()
    (only,) = server.programs()
    script, port = only.script.read_text(), server.place.ports.remembered("rabbitmq")
    assert f"-p 127.0.0.1:{port}:5672" in script
    assert f"-v {server.container}:/var/lib/rabbitmq" in script
    assert "rabbitmq:4-management" in script
    assert only.user is None
    url = server.url()
    assert url is not None
    assert url.startswith("amqp://a2a:")
    assert server.env() == {"A2A_BROKER_URL": url}


def test_apt_is_updated_first_and_its_daemons_do_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, log = tmp_path / "apt-get", tmp_path / "log"
    fake.write_text(f'#!/bin/sh\necho "$RUNLEVEL $DEBIAN_FRONTEND $*" >> {log}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    said: list[str] = []
    install.install(["rabbitmq", "redis"], say=said.append)
    assert log.read_text().splitlines() == [
        "1 noninteractive update",
        "1 noninteractive install -y --no-install-recommends rabbitmq-server redis-server",
    ]
    assert "rabbitmq-server" in said[0]
    fake.write_text("#!/bin/sh\necho no network; exit 100\n")
    with pytest.raises(StackError, match="no network"):
        install.install(["redis"], say=said.append)


# --- logs ---


def test_a_follower_sees_each_line_once_and_a_rotated_log_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    follower = Follower(tmp_path)
    log.write_text("one\ntwo\n")
    assert [line.split("| ")[1] for line in follower.new_lines()] == ["one", "two"]
    assert follower.new_lines() == []
    log.write_text("new\n")
    assert [line.split("| ")[1] for line in follower.new_lines()] == ["new"]


def test_a_tail_is_short_and_a_log_is_of_one_run(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("\n".join(str(number) for number in range(100)))
    assert tail(log, lines=2) == "    98\n    99"
    set_aside(log)
    assert "empty" in tail(log)
    assert (tmp_path / "web.previous").exists()


def test_an_app_process_is_in_the_app_group_by_default() -> None:
    assert program("web").group == APP


# --- metrics ---


def test_the_targets_are_the_processes_that_run_and_export(tmp_path: Path) -> None:
    env = {
        "A2A_PORT": "8000",
        "A2A_CPU_METRICS_PORT": "21",
        "A2A_IO_METRICS_PORT": "0",
        "A2A_SYSTEM_METRICS_PORT": "22",
    }
    found = targets(env, ["web", "worker-cpu", "worker-io", "dispatcher", "beat"])
    assert found == {"web": "127.0.0.1:8000", "worker-cpu": "127.0.0.1:21"}
    elsewhere = targets({**env, "A2A_METRICS_HOST": "10.0.0.7"}, ["web", "worker-cpu"])
    assert elsewhere == {"web": "127.0.0.1:8000", "worker-cpu": "10.0.0.7:21"}
    assert targets({**env, "A2A_METRICS_HOST": "0.0.0.0"}, ["worker-cpu"]) == {"worker-cpu": "127.0.0.1:21"}  # noqa: S104
    write_targets(tmp_path / "targets.json", found)
    assert json.loads((tmp_path / "targets.json").read_text())[1] == {
        "targets": ["127.0.0.1:21"],
        "labels": {"job": "worker-cpu"},
    }


def test_prometheus_looks_for_the_targets_where_the_stack_writes_them() -> None:
    text = (paths.ROOT / "deploy" / "prometheus.local.yml").read_text()
    assert '"../.a2a/run/targets.json"' in text
