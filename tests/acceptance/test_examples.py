"""The examples do, as commands against a running instance, what they say."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from standardwebhooks import Webhook

from examples.streaming import streams
from examples.streaming.followed import Followed
from examples.streaming.webhook import receiver
from stack.ports import find_free
from tests.live import Live
from tests.proxies import cutting_proxy

ROOT = Path(__file__).parents[2]
EXAMPLES = {"server": [], "client": ["hello"], "streaming": []}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def command(example: str, *args: str) -> list[str]:
    return [sys.executable, "-m", f"examples.{example}", *args]


def run(example: str, *args: str, said: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs an example to its end; ``said`` is what it reads."""
    return subprocess.run(
        command(example, *args), cwd=ROOT, input=said, capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_where_nobody_listens_it_says_so(example: str) -> None:
    done = run(example, *EXAMPLES[example], "--connect", f"http://127.0.0.1:{find_free()}")
    assert (done.returncode, done.stdout.strip()) == (1, "")
    assert re.match("Nobody answers at http://127.0.0.1:[0-9]+: .+", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_explains_itself(example: str) -> None:
    done = run(example, "--help")
    assert done.returncode == 0
    assert "--connect URL" in done.stdout


@pytest.mark.services
def test_the_server_has_its_three_agents(live: Live) -> None:
    done = run("server", "--connect", live.stack.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["book", "primes", "word-count"]


@pytest.mark.services
def test_the_client_prints_what_an_executor_answers(live: Live) -> None:
    done = run("client", "--connect", live.stack.url, "--agent", "word-count", "to be or not to be")
    assert done.returncode == 0, done.stderr
    words, said = done.stdout.splitlines()
    assert json.loads(words) == {"to": 2, "be": 2, "or": 1, "not": 1}
    assert said == "6 words"


@pytest.mark.services
def test_the_client_answers_what_an_agent_asks(live: Live) -> None:
    talk = ["--connect", live.stack.url, "--agent", "book"]
    done = run("client", *talk, "a table, please", said="for 4\nin the evening\nat 19:30\n")
    assert (done.returncode, done.stdout) == (0, "A table for 4 at 19:30.\n"), done.stderr
    questions = [line for line in done.stderr.splitlines() if line.startswith("input required")]
    assert [line.partition(": ")[2] for line in questions] == [
        "For how many?",
        "At what time?",
        "At what time? For example 19:30.",
    ]


@pytest.mark.services
def test_the_client_leaves_a_question_and_answers_it_later(live: Live) -> None:
    talk = ["--connect", live.stack.url, "--agent", "book"]
    asked = run("client", *talk, "for 2")
    assert (asked.returncode, asked.stdout) == (1, "")
    (task_id,) = re.findall(r"--task (\S+)", asked.stderr)
    done = run("client", *talk, "--task", task_id, "18:00")
    assert (done.returncode, done.stdout) == (0, "A table for 2 at 18:00.\n"), done.stderr


@pytest.mark.services
def test_the_client_says_why_a_task_failed(live: Live) -> None:
    done = run("client", "--connect", live.stack.url, "--agent", "primes", "many")
    assert done.returncode == 1
    assert "the text must be a number from 2 to 5000000" in done.stderr


@pytest.mark.services
def test_the_client_says_where_there_is_no_such_agent(live: Live) -> None:
    done = run("client", "--connect", live.stack.url, "--agent", "nobody", "hello")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert f"{live.stack.url}/a2a/nobody/.well-known/agent-card.json (HTTP 404)" in done.stderr


@pytest.mark.services
def test_ctrl_c_cancels_the_clients_task(live: Live) -> None:
    long = ["--agent", "sleep", "--parameters", '{"seconds": 60}', "a minute"]
    with subprocess.Popen(
        command("client", "--connect", live.stack.url, *long),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hears_ctrl_c,
    ) as client:
        assert client.stderr is not None
        heard = next(line for line in client.stderr if line.startswith("working"))
        client.send_signal(signal.SIGINT)
        rest = client.stderr.read()
    assert client.returncode == 130, heard + rest
    (task_id,) = re.findall(r"cancelled (\S+)", rest)
    assert live.ended(task_id)["status"] == "cancelled"


@pytest.mark.services
def test_a_key_is_sent_and_one_that_is_wrong_is_refused_readably(live: Live) -> None:
    live.submit("echo")  # makes the client, where it is the first to ask
    key, *_ = live.manage("a2a", "keys", "issue", "local", "--name", "examples").split()
    connect = ["--connect", live.stack.url]
    assert run("client", *connect, "--api-key", key, "hello").stdout == "hello\n"
    wrong = {"A2A_API_KEY": f"{key}x"}
    refused = [run("client", *connect, "hello", env=wrong), run("streaming", *connect, "1000", env=wrong)]
    assert [done.returncode for done in refused] == [1, 1]
    assert refused[0].stderr.startswith("error: HTTP Error 401")
    assert refused[1].stderr == "Refused: the API key is unknown, expired or revoked\n"


@pytest.mark.services
def test_streams_that_are_cut_go_on_without_a_gap(live: Live) -> None:
    texts = ["20000", "30000", "40000", "50000"]
    with cutting_proxy(urlsplit(live.stack.url).port or 0, cuts=len(texts)) as proxy:
        done = run("streaming", "--connect", proxy.url, *texts)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(proxy.cut_after) == len(texts)
        assert sorted(proxy.asked_after) == [1] * len(texts) + sorted(proxy.cut_after)
    for text in texts:
        assert told(done.stdout, text) == kept(live, text)
    assert sum(map(int, re.findall(r"resumed (\d+) times", done.stdout))) == len(texts)


@pytest.mark.services
def test_a_stream_ends_where_its_task_asks(live: Live) -> None:
    done = run("streaming", "--connect", live.stack.url, "--agent", "book", "for 2")
    assert (done.returncode, done.stderr) == (1, "")
    assert "for 2: input_required At what time?: events 1-" in done.stdout


async def test_comments_in_a_stream_are_no_events() -> None:
    content = b'id: 2\ndata: {"a": 1}\n\n: still here\n\nid: 3\ndata: {"a": 2}\n\n'
    headers = {"Content-Type": "text/event-stream"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, content=content))
    async with httpx.AsyncClient(base_url="http://server", transport=transport) as http:
        taken = [event async for event in streams.events(http, Followed(text="", id="x"))]
    assert taken == [{"a": 1}, {"a": 2}]


@pytest.mark.services
def test_the_same_comes_by_a_webhook_that_is_signed(live: Live) -> None:
    live.submit("echo")
    secret = live.manage("a2a", "webhook-secret", "local").split()[0]
    hook = ["--webhook", f"http://127.0.0.1:{find_free()}", "--webhook-secret", secret]
    done = run("streaming", "--connect", live.stack.url, *hook, "60000", "70000")
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ("60000", "70000"):
        assert told(done.stdout, text) == kept(live, text)


def _hears_ctrl_c() -> None:
    """Where the tests run in the background, SIGINT is ignored by what they start too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def told(output: str, text: str) -> tuple[int, int]:
    """How many events and characters the example has had of the task with this text."""
    ((events, characters),) = re.findall(rf"{text}: completed .*: events 1-(\d+), (\d+) characters", output)
    return int(events), int(characters)


def kept(live: Live, text: str) -> tuple[int, int]:
    """How many events and characters the server has of it, the newest with this text."""
    query = """
        SELECT task.id, task.generation FROM tasks_app_task task JOIN artifacts_app_artifact artifact
        ON artifact.task_id = task.id WHERE artifact.name = %s ORDER BY task.id DESC LIMIT 1
    """
    ((task_id, generation),) = live.sql(query, f"primes up to {text}")
    (artifact,) = live.task(str(task_id))["artifacts"]
    content = live.http.get(artifact["content_url"]).text
    primes = [int(line) for line in content.splitlines()]
    assert primes == sorted(set(primes))
    return generation, len(content)


def test_the_receiver_takes_only_what_is_signed() -> None:
    taken: list[tuple[int, Any]] = []
    url = f"http://127.0.0.1:{find_free()}"
    body, now = '{"statusUpdate": {}}', datetime.now(UTC)
    good = Webhook(SECRET).sign("one", now, body)
    headers = {"webhook-id": "one", "webhook-timestamp": str(int(now.timestamp()))}
    with receiver(url, SECRET, lambda number, event: taken.append((number, event))):
        for signature in (None, "nonsense", "v1,AAAA", Webhook(SECRET).sign("another", now, body)):
            signed = {"webhook-signature": signature} if signature else {}
            assert httpx.post(f"{url}/0", content=body, headers={**headers, **signed}).status_code == 401
        assert taken == []
        assert httpx.post(f"{url}/3", content=body, headers={**headers, "webhook-signature": good}).status_code == 204
    assert taken == [(3, {"statusUpdate": {}})]
