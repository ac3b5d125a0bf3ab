"""Real processes under `stack`: started, killed, restarted, stopped; and nothing is ever left behind.

A tiny application stands in for the real one, so that this says something about `stack` alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from stack import AlreadyRunning, PortInUse, Services, Stack, StackError
from stack.health import http_answers, wait_until
from stack.paths import ROOT
from stack.ports import find_free
from stack.reset import reset

pytestmark = pytest.mark.services

WEB = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["A2A_PORT"])), Handler).serve_forever()
"""
WORKER = """
import subprocess, sys, time
if "child" not in sys.argv:
    subprocess.Popen([sys.executable, __file__, "child"])
print(sys.argv[1:], flush=True)
time.sleep(600)
"""
MANAGE = """
import os, psycopg, redis, sys
psycopg.connect(os.environ["DATABASE_URL"]).execute("select 1")
redis.Redis.from_url(os.environ["REDIS_URL"]).ping()
"""
PROCFILE = "web: python web.py\nworker: python worker.py -n w-$$@%h ${NONE:-default} ; echo never\n"


@pytest.fixture
def app() -> Iterator[Path]:
    """A copy of `stack` with a tiny application, in a folder that others can reach."""
    root = Path(tempfile.mkdtemp(prefix="a2a-t-"))
    root.chmod(0o711)
    shutil.copytree(ROOT / "stack", root / "stack", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {"web.py": WEB, "worker.py": WORKER, "manage.py": MANAGE, "Procfile": PROCFILE}.items():
        (root / name).write_text(text)
    yield root
    try:
        Stack(root / ".a2a", root=root).stop()
        Services(root / ".a2a", env={}).stop()
        left = processes_of(root)
        reset(root / ".a2a", everything=True)
        assert not left
    finally:
        shutil.rmtree(root)


def processes_of(root: Path) -> list[str]:
    """Every live process that names this folder in its command, folder or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            traces = [*process.cmdline(), *process.environ().values(), process.cwd()]
            if process.pid != os.getpid() and any(str(root) in trace for trace in traces):
                found.append(f"{process.pid} {process.cmdline()}")
        except (psutil.Error, OSError):
            continue
    return found


def tiny(app: Path, **options: object) -> Stack:
    given = {"root": app, "port": 0, "prepare": [["manage.py"]], "embedded": True, **options}
    return Stack(app / ".a2a", **given)  # type: ignore[arg-type]


def command(app: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m stack …` of the copy, as a user would run it without any service of their own."""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_URL") and name != "A2A_STATE_DIR"}
    call = [sys.executable, "-m", "stack", *arguments]
    return subprocess.run(call, cwd=app, env=env, capture_output=True, text=True, timeout=120)


def test_up_brings_the_whole_application_up_and_down_leaves_nothing(app: Path) -> None:
    stack = tiny(app)
    stack.start()
    assert stack.wait_ready() < 60
    assert http_answers("127.0.0.1", int(stack.env["A2A_PORT"]), "/healthz")
    assert wait_until(lambda: "child" in stack.log("worker"), timeout_s=10)
    assert f"w-{stack.pid('worker')}@%h', 'default'" in stack.log("worker")
    assert stack.env["A2A_OPEN_MODE"] == "1"
    assert oct(stack.env_file.stat().st_mode)[-3:] == "600"
    with pytest.raises(AlreadyRunning):
        tiny(app).start()
    assert {stopped.name for stopped in stack.stop()} >= {"web", "worker", "postgresql", "redis", "supervisord"}
    assert processes_of(app) == []


def test_a_killed_process_comes_back_and_with_autorestart_off_it_does_not(app: Path) -> None:
    stack = tiny(app, processes=["web"], embedded=False, prepare=[])
    stack.start()
    stack.wait_ready()
    killed = stack.kill("web")
    assert wait_until(lambda: stack.pid("web") not in (0, killed), timeout_s=10)
    stack.stop()
    stack = tiny(
        app, processes=["web"], extra={"second": "python worker.py"}, embedded=False, prepare=[], autorestart=False
    )
    stack.start()
    stack.wait_ready()
    stack.kill("web")
    assert stack.pid("web") == 0
    stack.start_process("web")
    stack.wait_ready()
    stack.stop_process("second")
    assert stack.pid("second") == 0


def test_a_killed_supervisord_leaves_nothing_that_down_does_not_stop(app: Path) -> None:
    stack = tiny(app)
    stack.start()
    stack.wait_ready()
    daemon = psutil.Process(int((stack.run_dir / "supervisord.pid").read_text()))
    daemon.send_signal(signal.SIGKILL)
    daemon.wait(5)
    assert len(stack.supervisor.orphans()) >= 4
    done = command(app, "down")
    assert "stopped postgresql" in done.stdout
    assert "stopped redis" in done.stdout
    assert processes_of(app) == []


def test_two_stacks_and_a_private_redis_run_side_by_side(app: Path) -> None:
    first = tiny(app, processes=["web"], prepare=[])
    first.start()
    other = app / "other"
    second = Stack(other, root=app, port=0, processes=["web"], env=first.env, embedded={"redis", "broker"}, prepare=[])
    try:
        second.start()
        first.wait_ready()
        second.wait_ready()
        assert first.url != second.url
        assert second.env["DATABASE_URL"] == first.env["DATABASE_URL"]
        assert second.env["REDIS_URL"] != first.env["REDIS_URL"]
        assert str(other) in second.env["A2A_BROKER_URL"]
        assert second.kill("redis") > 0
    finally:
        second.stop()


def test_a_port_in_use_and_a_failing_preparation_are_said_plainly(app: Path) -> None:
    stack = tiny(app, processes=["web"], embedded=False, prepare=[])
    stack.start()
    stack.wait_ready()
    port = int(stack.env["A2A_PORT"])
    with pytest.raises(PortInUse, match=str(port)):
        Stack(app / "other", root=app, port=port, embedded=False, prepare=[]).start()
    stack.stop()
    with pytest.raises(StackError, match="no such table"):
        tiny(app, embedded=False, prepare=[["-c", "raise SystemExit('no such table')"]]).start()
    assert processes_of(app) == []


def test_a_web_process_that_cannot_start_shows_the_end_of_its_log(app: Path) -> None:
    (app / "web.py").write_text("raise SystemExit('cannot bind')")
    stack = tiny(app, processes=["web"], embedded=False, prepare=[], autorestart=False)
    stack.start()
    with pytest.raises(StackError, match="cannot bind"):
        stack.wait_ready()


def test_the_command_line_says_what_runs_where(app: Path) -> None:
    port = str(find_free())
    up = command(app, "up", "--port", port)
    assert up.returncode == 0, up.stdout + up.stderr
    assert f"http://127.0.0.1:{port}" in up.stdout
    assert command(app, "up").returncode == 0
    assert command(app, "up", "--port", "1").returncode == 1
    assert "RUNNING" in command(app, "status").stdout
    assert command(app, "reset").returncode == 1
    assert "stopped web" in command(app, "down").stdout
    assert command(app, "reset").returncode == 0
    assert command(app, "status").returncode == 1


def test_run_stops_everything_when_it_is_asked_to_end(app: Path) -> None:
    (app / "Procfile").write_text("web: python web.py\n")
    env = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    running = subprocess.Popen(
        [sys.executable, "-m", "stack", "run", "--port", "0"],
        cwd=app,
        env={**env, "A2A_STATE_DIR": str(app / ".a2a")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert any("Stop it with Ctrl-C" in line for line in running.stdout)
    running.send_signal(signal.SIGTERM)
    assert "stopped web" in running.stdout.read()
    assert running.wait(30) == 0
    assert processes_of(app) == []


def test_each_service_can_be_killed_and_keeps_what_it_was_given(app: Path) -> None:
    import kombu
    import psycopg
    import redis

    services = Services(app / ".a2a", env={})
    env = services.ensure()
    assert Services(app / ".a2a", env=env).given() == {}
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        connection.execute("create table kept (id int)")
    redis.Redis.from_url(env["REDIS_URL"]).set("kept", "1")
    queue = kombu.Queue("kept", durable=True, queue_arguments={"x-queue-type": "quorum"})
    options = {"confirm_publish": True}
    with kombu.Connection(env["A2A_BROKER_URL"], transport_options=options) as broker:
        broker.Producer().publish("hello", routing_key="kept", declare=[queue], delivery_mode=2)
    wait_until(lambda: False, timeout_s=1.2)  # Redis writes its file through once a second
    for name in ("postgresql", "redis", "rabbitmq"):
        killed = services.kill(name)
        assert services.pid(name) == 0
        assert services.start_process(name) != killed
        services.wait_ready(name)
    assert services.ensure() == env
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        connection.execute("select * from kept")
    assert redis.Redis.from_url(env["REDIS_URL"]).get("kept") == b"1"
    with kombu.Connection(env["A2A_BROKER_URL"]) as broker:
        message = queue.bind(broker.default_channel).get()
        assert message is not None
        assert message.payload == "hello"
        message.ack()
    names = {stopped.name for stopped in services.stop()}
    assert names >= {"postgresql", "redis", "rabbitmq", "epmd", "supervisord"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")
def test_below_a_closed_home_the_data_live_outside_and_reset_removes_them(app: Path) -> None:
    app.chmod(0o700)
    stack = tiny(app, processes=["web"])
    stack.start()
    stack.wait_ready()
    room = (app / ".a2a" / "outside").resolve()
    assert str(room) in stack.env["DATABASE_URL"]
    assert psutil.Process(stack.pid("postgresql")).username() == "nobody"
    stack.stop()
    reset(app / ".a2a", everything=True)
    assert not room.exists()


def test_stacks_of_one_checkout_that_start_at_once_are_prepared_in_turn(app: Path) -> None:
    """They collect static files into one folder."""
    (app / "alone.py").write_text(
        "import os, time\nos.close(os.open('alone', os.O_CREAT | os.O_EXCL))\ntime.sleep(0.3)\nos.unlink('alone')\n"
    )
    states = [app / ".a2a", app / "other"]
    made = [
        Stack(state, root=app, port=0, processes=["web"], embedded=False, prepare=[["alone.py"]]) for state in states
    ]
    try:
        with ThreadPoolExecutor(len(made)) as pool:
            for started in [pool.submit(stack.start) for stack in made]:
                started.result()
    finally:
        for stack in made:
            stack.stop()
        reset(states[1], everything=True)
