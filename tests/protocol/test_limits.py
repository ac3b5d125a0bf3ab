"""How many tasks a client may submit per second, and have waiting: 429 at both doors, and nothing left behind."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from stack import binaries
from tasks_app import authentication, throttle
from tasks_app.models import ApiKey, Client, Task
from tasks_app.status import Lane
from tests.factory import Factory, admit
from tests.live import wait_for
from tests.protocol.doors import TASKS, Doors, content, message, nothing_left, rest_body

#: A port on which nobody listens.
AWAY = "redis://127.0.0.1:1/0"
Request = tuple[str, str, dict[str, Any]]
Make = Callable[..., Request]


@pytest.fixture(autouse=True)
def _counted_anew(services: dict[str, str], settings: Any) -> None:
    """Clients of an earlier database had the same ids."""
    settings.REDIS_URL = services["REDIS_URL"]
    for forget in (throttle._shared, throttle._in_memory):
        forget.cache_clear()
    throttle._health._quiet_until = 0.0
    with redis.Redis.from_url(services["REDIS_URL"]) as server:
        for key in server.scan_iter(f"{throttle.PREFIX}*"):
            server.delete(key)


def limited(**limits: Any) -> tuple[Client, str]:
    client = Client.objects.create(name="limited", **limits)
    return client, ApiKey.issue(client)[1]


def over_rest(key: str, **said: Any) -> Request:
    return "POST", TASKS, content(rest_body(message=message(**said)), authorization=f"Bearer {key}")


def over_jsonrpc(key: str, *, method: str = "SendMessage", **said: Any) -> Request:
    params = {"message": message(**said), "configuration": {"returnImmediately": True}}
    call = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return "POST", "/a2a/echo/", content(call, authorization=f"Bearer {key}")


def send(doors: Doors, request: Request) -> httpx.Response:
    method, path, options = request
    return doors.send(method, path, **options)


def statuses(replies: list[httpx.Response]) -> Counter[int]:
    return Counter(reply.status_code // 100 if reply.is_success else reply.status_code for reply in replies)


def refused(reply: httpx.Response, limit: str) -> int:
    """How long the client is told to wait."""
    assert reply.status_code == 429, reply.text
    retry_after_s = int(reply.headers["retry-after"])
    assert retry_after_s >= 1
    answer = reply.json()
    if "jsonrpc" in answer:
        error = answer["error"]
        assert (answer["id"], error["code"]) == (7, -32029)
        info, retry = error["data"]
        assert (info["reason"], info["metadata"]) == ("RESOURCE_EXHAUSTED", {"limit": limit})
        assert retry == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after_s}s"}
        assert error["message"].startswith(f"{limit}: ")
    else:
        assert [error["field"] for error in answer["errors"]] == [limit]
        assert answer["detail"].startswith(f"{limit}: ")
    return retry_after_s


both_doors = pytest.mark.parametrize("make", [over_rest, over_jsonrpc])


# Rate ----------------------------------------------------------------------------------------------------------------


@both_doors
def test_what_is_submitted_faster_than_the_rate_is_refused(doors: Doors, make: Make) -> None:
    _, key = limited(submit_rate_per_s=0.05)
    replies = [send(doors, make(key)) for _ in range(3)]
    assert [reply.is_success for reply in replies] == [True, True, True]
    with nothing_left():
        reply = send(doors, make(key))
    assert 1 <= refused(reply, "submit_rate_per_s") <= 60


def test_a_stream_is_refused_before_it_begins(doors: Doors) -> None:
    _, key = limited(submit_rate_per_s=0.01)
    assert send(doors, over_rest(key)).status_code == 201
    with nothing_left():
        refused(send(doors, over_jsonrpc(key, method="SendStreamingMessage")), "submit_rate_per_s")


def test_a_request_that_is_wrong_or_only_looks_is_not_counted(doors: Doors) -> None:
    _, key = limited(submit_rate_per_s=0.01)
    for _ in range(3):
        assert send(doors, over_rest(key, role="ROLE_AGENT")).status_code == 400
        assert doors.send("GET", TASKS, headers={"x-api-key": key}).status_code == 200
    assert send(doors, over_rest(key)).status_code == 201


def test_one_clients_rate_is_not_anothers(doors: Doors) -> None:
    _, key = limited(submit_rate_per_s=0.01)
    replies = [send(doors, over_rest(key)) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [201, 429]
    assert doors.submit(rest_body()).status_code == 201


def test_a_changed_rate_counts_once_the_caller_is_asked_for_again(doors: Doors) -> None:
    client, key = limited(submit_rate_per_s=0.01)
    assert send(doors, over_rest(key)).status_code == 201
    Client.objects.filter(pk=client.pk).update(submit_rate_per_s=None)
    authentication.forget()
    assert send(doors, over_rest(key)).status_code == 201


@pytest.mark.parametrize("url", [None, AWAY, ""], ids=["redis", "redis away", "no redis"])
def test_through_both_doors_of_two_webs_at_once_the_rate_holds(doors: Doors, settings: Any, url: str | None) -> None:
    """Two event loops on threads of their own, each with connections of its own, stand for two web processes."""
    if url is not None:
        settings.REDIS_URL = url
    _, key = limited(submit_rate_per_s=0.2)
    replies = at_once([over_rest(key) if n % 2 else over_jsonrpc(key) for n in range(40)])
    assert statuses(replies) == {2: 12, 429: 28}
    assert Task.objects.count() == 12


def at_once(requests: list[Request]) -> list[httpx.Response]:
    def web(share: list[Request]) -> list[httpx.Response]:
        made = Doors()
        try:
            return made.together(share)
        finally:
            made.close()

    with ThreadPoolExecutor(2) as threads:
        halves = threads.map(web, (requests[::2] + requests[1::4], requests[3::4]))
        return [reply for half in halves for reply in half]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis of the test's own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binary = binaries.find_redis()
    assert binary is not None
    command = [str(binary), "--port", str(port), "--dir", str(tmp_path), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    url = f"redis://127.0.0.1:{port}/0"
    try:
        wait_for(lambda: answers(url), what="Redis answers")
        yield url, server
    finally:
        server.kill()
        server.wait()


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as server:
            return bool(server.ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
@both_doors
def test_a_redis_that_dies_or_hangs_fails_no_submit_and_each_process_counts_on(
    doors: Doors, settings: Any, own_redis: tuple[str, subprocess.Popen[bytes]], make: Make, how: signal.Signals
) -> None:
    settings.REDIS_URL, server = own_redis
    _, key = limited(submit_rate_per_s=0.05)
    before = [send(doors, make(key)) for _ in range(2)]
    server.send_signal(how)
    after = doors.together([make(key) for _ in range(10)])
    assert statuses(before) == {2: 2}
    assert statuses(after) == {2: 3, 429: 7}
    for reply in after:
        if reply.status_code == 429:
            refused(reply, "submit_rate_per_s")


def test_when_redis_is_back_it_counts_again(doors: Doors, settings: Any, services: dict[str, str]) -> None:
    settings.REDIS_URL = AWAY
    _, key = limited(submit_rate_per_s=0.01)
    assert send(doors, over_rest(key)).status_code == 201
    assert send(doors, over_rest(key)).status_code == 429
    settings.REDIS_URL = services["REDIS_URL"]
    throttle._health._quiet_until = 0.0
    assert statuses(doors.together([over_rest(key) for _ in range(3)])) == {2: 1, 429: 2}


# Depth ---------------------------------------------------------------------------------------------------------------


@both_doors
def test_no_more_than_may_wait_are_accepted(doors: Doors, make: Make) -> None:
    client, key = limited(max_queued=2)
    replies = [send(doors, make(key)) for _ in range(2)]
    assert [reply.is_success for reply in replies] == [True, True]
    with nothing_left():
        refused(send(doors, make(key)), "max_queued")
    Factory(client).claim(admit({Lane.IO: 1})[0].task_id)
    assert send(doors, make(key)).is_success


@both_doors
def test_a_message_that_is_sent_again_is_never_refused_for_depth(doors: Doors, make: Make) -> None:
    _, key = limited(max_queued=1)
    first, again = (send(doors, make(key, messageId="m")) for _ in range(2))
    assert first.is_success
    assert again.is_success
    assert Task.objects.count() == 1


def test_a_crowd_through_both_doors_of_two_processes_leaves_no_more_waiting_than_may(doors: Doors) -> None:
    _, key = limited(max_queued=7)
    requests = [over_rest(key) if n % 2 else over_jsonrpc(key) for n in range(40)]
    replies = at_once([*requests, *[over_jsonrpc(key, messageId="same") for _ in range(20)]])
    assert Task.objects.count() == 7
    assert statuses(replies)[429] >= 33
    for reply in replies:
        if not reply.is_success:
            refused(reply, "max_queued")


def test_who_has_no_limit_is_not_held_up_by_who_has_one(doors: Doors) -> None:
    _, key = limited(max_queued=1)
    free = ApiKey.issue(Client.objects.create(name="free"))[1]
    replies = doors.together([over_jsonrpc(key if n % 2 else free) for n in range(20)])
    assert statuses(replies[::2]) == {2: 10}
    assert statuses(replies[1::2]) == {2: 1, 429: 9}


@pytest.mark.parametrize(("limit", "value", "accepted"), [("max_queued", 0, 0), ("submit_rate_per_s", 0.01, 1)])
def test_a_rerun_counts_as_a_submit(doors: Doors, limit: str, value: float, accepted: int) -> None:
    client, key = limited(**{limit: value})
    again = f"{TASKS}{Factory(client).finished()}/rerun/"
    replies = [doors.send("POST", again, headers={"x-api-key": key}) for _ in range(2)]
    assert statuses(replies)[2] == Task.objects.filter(rerun_of__isnull=False).count() == accepted
    refused(replies[-1], limit)
